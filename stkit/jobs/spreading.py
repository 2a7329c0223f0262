"""What an engine makes of the photos of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from stkit.contracts.engines import Spread
from stkit.jobs.report import Row
from stkit.jobs.request import Spreading
from stkit.jobs.sources import Item
from stkit.plugins import load_plugins


def spread_rows(
    request: Spreading, make_job: Callable[[], Any], together: int
) -> Callable[[Sequence[Item]], Iterator[Row]] | None:
    """What gives the rows of items by the request's engine, which sends `together` of them at once; None without one.

    See `stkit.contracts.engines.Engine.rows` for `make_job`. Raises UsageError for an engine that is none.
    """
    if request.engine is None:
        return None
    engine = load_plugins().engine(request.engine)
    spread = Spread(request.address, request.workers, request.gpus_per_worker, together)
    return lambda items: engine.rows(items, make_job, spread)


__all__ = ["spread_rows"]
