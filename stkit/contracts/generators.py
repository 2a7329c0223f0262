"""The contract of generator architectures: from a weights header to a network. Free of torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from stkit.contracts.shapes import Shape, shape_values

if TYPE_CHECKING:
    from stkit.checkpoints.layout import Recognised
    from stkit.checkpoints.reading import Checkpoint
    from stkit.models.generators import Generator


class Architecture(ABC):
    """A generator architecture, by the name that the headers of weights files give it. Construction loads nothing."""

    name: ClassVar[str]
    description: ClassVar[str]

    @abstractmethod
    def config(self, values: Mapping[str, Any]) -> Shape:
        """The configuration (a frozen dataclass) that a header's `config` stands for, without torch.

        Raises UsageError, TypeError or ValueError for values that are none.
        """

    @abstractmethod
    def build(self, config: Any) -> Generator:
        """A generator of that configuration, randomly initialised."""

    def recognise(self, checkpoint: Checkpoint) -> Recognised | None:
        """What a foreign checkpoint holds, if it is one of this architecture; see `stkit weights import`.

        Raises WeightsError for one that is, but cannot be used.
        """
        return None


__all__ = ["Architecture", "Shape", "shape_values"]
