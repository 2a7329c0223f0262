"""The MobileStyleGAN synthesis frozen for inference: a copy that keeps no link to what it was made of."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stkit.models.generators import NoiseMode, Renderer
from stkit.models.mobile_stylegan_cpu import StripRenderer, runs_in_strips
from stkit.models.mobile_stylegan_synthesis import MobileSynthesis


@dataclass(frozen=True, eq=False)
class FrozenMobileStyleGAN(Renderer):
    """A synthesis network; samples go through one by one, so that memory does not grow with the batch."""

    network: MobileSynthesis
    dtype: torch.dtype

    @torch.no_grad()
    def styles(self, w_plus: Tensor) -> list[Tensor]:
        return self.network.styles(w_plus)

    @torch.no_grad()
    def render(self, styles: Sequence[Tensor], noise: NoiseMode = "const", *, resolution: int | None = None) -> Tensor:
        """As `Renderer.render`; the full resolution, or half of it."""
        rows = [[style[i : i + 1] for style in styles] for i in range(len(styles[0]))]
        return torch.cat([self.network(row, noise, self.dtype, resolution) for row in rows])


def freeze_synthesis(network: MobileSynthesis, dtype: torch.dtype = torch.float32) -> Renderer:
    """`network` for inference, on its device, with features in `dtype`."""
    if runs_in_strips(network.to_image.weight.device, dtype):
        with torch.no_grad():
            return StripRenderer.of(network, dtype)
    return FrozenMobileStyleGAN(copy.deepcopy(network).eval().requires_grad_(False), dtype)


__all__ = ["FrozenMobileStyleGAN", "freeze_synthesis"]
