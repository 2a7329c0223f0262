"""The contract of generator architectures: from a weights header to a network. Free of torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from stkit.checkpoints.layout import Recognised
    from stkit.checkpoints.reading import Checkpoint
    from stkit.models.generators import Generator


class Shape(Protocol):
    """What the configuration of any generator, a frozen dataclass, says."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def z_dim(self) -> int:
        """Width of z."""

    @property
    def w_dim(self) -> int:
        """Width of w."""

    @property
    def num_ws(self) -> int:
        """Rows of w_plus: the vectors that steer the synthesis."""

    @property
    def img_resolution(self) -> int:
        """Side of the images in pixels."""

    @property
    def mapping_layers(self) -> int:
        """Layers of the mapping network."""


def shape_values(shape: Shape) -> dict[str, int]:
    """What the header of a generator's weights says of its shape, so that it can be read without the architecture."""
    return {name: getattr(shape, name) for name in ("z_dim", "w_dim", "num_ws", "img_resolution")}


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
