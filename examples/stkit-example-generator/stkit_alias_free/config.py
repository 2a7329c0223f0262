"""The shape of an alias-free generator, without torch."""

from __future__ import annotations

from dataclasses import dataclass

from stkit.plugin import UsageError

LAYERS = 14


@dataclass(frozen=True)
class AliasFreeConfig:
    """14 layers whatever the resolution, so that w_plus always has 16 rows: input, layers, RGB."""

    img_resolution: int = 64
    z_dim: int = 64
    w_dim: int = 64
    mapping_layers: int = 2
    channels: int = 32

    def __post_init__(self) -> None:
        if self.img_resolution not in (16, 32, 64, 128, 256):
            raise UsageError(f"img_resolution {self.img_resolution} is not a power of two from 16 to 256")

    @property
    def num_ws(self) -> int:
        """Rows of w_plus."""
        return LAYERS + 2

    @property
    def sizes(self) -> list[int]:
        """The side of each layer's features, from 8 px on; it doubles where a layer begins with a larger one."""
        octaves = self.img_resolution.bit_length() - 4
        return [8 * 2 ** ((octaves * (layer + 1)) // LAYERS) for layer in range(LAYERS)]
