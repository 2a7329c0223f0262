"""The contract of what a generator's configuration says of its shape. Free of torch."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol


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


__all__ = ["Shape", "shape_values"]
