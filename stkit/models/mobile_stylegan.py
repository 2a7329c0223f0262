"""MobileStyleGAN (Belousov, arXiv 2104.04767) behind the contract of all generators."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stkit.models.generators import Generator, NoiseMode, Renderer, StyleLayer, layers_by_row
from stkit.models.mobile_stylegan_inference import freeze_synthesis
from stkit.models.mobile_stylegan_synthesis import MobileSynthesis
from stkit.models.shapes import MobileStyleGANConfig


class MobileStyleGAN(Generator):
    """The generator."""

    architecture = "mobile-stylegan"
    exact_half = True
    config: MobileStyleGANConfig

    def __init__(self, config: MobileStyleGANConfig) -> None:
        super().__init__(config, config.mapping_layers)
        self.synthesis: MobileSynthesis = MobileSynthesis(config)

    def style_layers(self) -> list[StyleLayer]:
        """Every row of w_plus has one layer of its own."""
        return layers_by_row([affine.out_features for affine in self.synthesis.affines()])

    def styles(self, w_plus: Tensor) -> list[Tensor]:
        return self.synthesis.styles(w_plus)

    def render(
        self,
        styles: Sequence[Tensor],
        noise: NoiseMode = "const",
        *,
        dtype: torch.dtype | None = None,
        resolution: int | None = None,
    ) -> Tensor:
        return self.synthesis(styles, noise, dtype or torch.float32, resolution)

    def modulation(self, layer: int) -> tuple[Tensor, Tensor]:
        affine = self.synthesis.affines()[layer]
        return affine.weight, affine.bias

    def early_features(self, w: Tensor) -> Tensor:
        first = self.synthesis.first
        return first(first.affine(w), "none", w.dtype)

    def freeze(self, dtype: torch.dtype = torch.float32) -> Renderer:
        return freeze_synthesis(self.synthesis, dtype)


__all__ = ["MobileStyleGAN"]
