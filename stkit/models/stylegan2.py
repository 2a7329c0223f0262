"""The StyleGAN2 generator (Karras et al. 2020) behind the contract of all generators."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from stkit.errors import UsageError
from stkit.models import generators
from stkit.models.generators import NoiseMode, Renderer, StyleLayer
from stkit.models.shapes import StyleGAN2Config
from stkit.models.stylegan2_inference import freeze_synthesis
from stkit.models.stylegan2_synthesis import SynthesisNetwork
from stkit.moved import renamed


class StyleGAN2(generators.Generator):
    """The StyleGAN2 generator."""

    architecture = "stylegan2"
    config: StyleGAN2Config

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__(config, config.mapping_layers)
        self.synthesis: SynthesisNetwork = SynthesisNetwork(config)

    def style_layers(self) -> list[StyleLayer]:
        """The convolutions, then the ToRGBs, numbered as the paper does: 4x4 conv, its ToRGB, 8x8 conv, conv, ..."""
        network = self.synthesis
        convs = [(3 * ((i + 1) // 2) - 1 + (i + 1) % 2 if i else 0, i) for i in range(len(network.convs))]
        rgbs = [(3 * i + 1, 2 * i + 1) for i in range(len(network.to_rgbs))]
        widths = [affine.weight.shape[0] for affine in network.affines()]
        conv: Literal["conv", "image"] = "conv"
        kinds = [conv] * len(convs) + ["image"] * len(rgbs)
        return [
            StyleLayer(index, row, width, kind)
            for (index, row), width, kind in zip(convs + rgbs, widths, kinds, strict=True)
        ]

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
        """As `Renderer.render`; `resolution` stops at that block: what a growing generator has learnt so far."""
        if resolution not in (None, *self.config.block_resolutions):
            raise UsageError(f"this generator renders 4, 8, ... {self.config.img_resolution} px, not {resolution}")
        return self.synthesis(styles, noise, dtype, resolution=resolution)

    def modulation(self, layer: int) -> tuple[Tensor, Tensor]:
        affine = self.synthesis.affines()[layer]
        return affine.weight * affine.scale, affine.bias * affine.lr_mul

    def early_features(self, w: Tensor) -> Tensor:
        conv = self.synthesis.convs[0]
        const = self.synthesis.const.expand(len(w), -1, -1, -1)
        return conv(const, conv.get_submodule("affine")(w), "none")

    def freeze(self, dtype: torch.dtype = torch.float32) -> Renderer:
        return freeze_synthesis(self.synthesis, dtype)


def require_stylegan2(generator: generators.Generator, what: str) -> StyleGAN2:
    """`generator` itself. Raises UsageError when it is of another architecture, which `what` cannot be done with."""
    if not isinstance(generator, StyleGAN2):
        raise UsageError(f"{what} needs a stylegan2 generator, and this one is a {generator.architecture}")
    return generator


__getattr__ = functools.partial(renamed, __name__)

__all__ = ["StyleGAN2", "require_stylegan2"]
