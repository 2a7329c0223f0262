"""The engine contract: how the photos of a job are spread over processes and machines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Spread:
    """How far to spread: the cluster's `address` (the engine's own words for it, by default one on this machine), the
    number of `workers`, by default as many as there is room for, and the share of GPUs that each of them gets.

    `together` photos go through a network at once.
    """

    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float = 0.0
    together: int = 8


class Engine(ABC):
    """An engine. Construction loads nothing."""

    name: ClassVar[str]
    description: ClassVar[str]

    @abstractmethod
    def rows(self, items: Sequence[Any], make_job: Callable[[], Any], spread: Spread) -> Iterator[Any]:
        """Yield a `stkit.jobs.report.Row` for each of `items`, in any order, as they are done.

        `make_job()`, which can be pickled, makes in a worker what `stkit.jobs.runner.run_batch` takes there with some
        of the `items`; all write to the same folder, which every worker must reach under the same name. An item whose
        worker dies goes to another; one that no worker survives gets a failed row. Raises UsageError, OutputError, ...
        what would be the same for all items.
        """


__all__ = ["Engine", "Spread"]
