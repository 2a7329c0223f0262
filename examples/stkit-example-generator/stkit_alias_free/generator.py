"""A small relative of StyleGAN3's generator (Karras et al., NeurIPS 2021), without its filters.

Fourier features that w turns and shifts in the place of a constant, modulated convolutions, one layer that makes the
image; no noise, and no image of features on the way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stkit.plugin import Generator, NoiseMode, StyleLayer, UsageError, layers_by_row
from stkit_alias_free.config import AliasFreeConfig


class FourierInput(nn.Module):
    """Waves over the image plane [B, channels, 8, 8]; the style is (cos, sin, x, y) of how they are moved."""

    frequencies: Tensor
    phases: Tensor

    def __init__(self, w_dim: int, channels: int) -> None:
        super().__init__()
        self.affine = nn.Linear(w_dim, 4)
        nn.init.zeros_(self.affine.weight)
        self.affine.bias.data.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        random = torch.Generator().manual_seed(0)
        self.register_buffer("frequencies", torch.randn(channels, 2, generator=random))
        self.register_buffer("phases", torch.rand(channels, generator=random))

    def forward(self, style: Tensor) -> Tensor:
        cos, sin = (style[:, :2] / style[:, :2].norm(dim=1, keepdim=True)).T
        turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)  # [B, 2, 2]
        side = torch.linspace(-1, 1, 8, device=style.device, dtype=style.dtype)
        grid = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(-1, 2)  # [64, 2]
        places = (grid - style[:, None, 2:]) @ turn.transpose(1, 2)  # [B, 64, 2]
        waves = places @ self.frequencies.to(style).T + self.phases.to(style)
        return torch.sin(2 * torch.pi * waves).transpose(1, 2).unflatten(2, (8, 8))


class ModulatedLayer(nn.Module):
    """A convolution whose input channels are scaled by the style; with `demodulate` its output keeps its scale."""

    def __init__(self, w_dim: int, inputs: int, outputs: int, kernel: int, demodulate: bool) -> None:
        super().__init__()
        self.affine = nn.Linear(w_dim, inputs)
        nn.init.ones_(self.affine.bias)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel) / (inputs * kernel**2) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.demodulate = demodulate

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        weight = self.weight.to(x)
        y = F.conv2d(x * style.to(x)[:, :, None, None], weight, padding=weight.shape[2] // 2)
        if self.demodulate:
            power = style.square() @ self.weight.square().sum((2, 3)).T  # [B, outputs]
            y = y * (power + 1e-8).rsqrt().to(y)[:, :, None, None]
        return y + self.bias.to(y)[:, None, None]


class Synthesis(nn.Module):
    """Styles to images."""

    def __init__(self, config: AliasFreeConfig) -> None:
        super().__init__()
        width = config.channels
        self.sizes = config.sizes
        self.input = FourierInput(config.w_dim, width)
        self.layers = nn.ModuleList(ModulatedLayer(config.w_dim, width, width, 3, True) for _ in self.sizes)
        self.rgb = ModulatedLayer(config.w_dim, width, 3, 1, False)

    def affines(self) -> list[nn.Linear]:
        """The maps from w to the styles, one for each row of w_plus."""
        return [part.get_submodule("affine") for part in (self.input, *self.layers, self.rgb)]

    def forward(self, styles: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        x = self.input(styles[0]).to(dtype)
        for layer, size, style in zip(self.layers, self.sizes, styles[1:-1], strict=True):
            if x.shape[2] != size:
                x = F.interpolate(x, size=(size, size), mode="bilinear")
            x = F.leaky_relu(layer(x, style), 0.2) * 2**0.5
        return self.rgb(x, styles[-1]).float()


class AliasFree(Generator):
    """The generator behind stkit's contract."""

    architecture = "tiny-alias-free"
    config: AliasFreeConfig

    def __init__(self, config: AliasFreeConfig) -> None:
        super().__init__(config, config.mapping_layers)
        self.synthesis: Synthesis = Synthesis(config)

    def style_layers(self) -> list[StyleLayer]:
        """A row of w_plus, a layer: the input, the convolutions, the image."""
        return layers_by_row([affine.out_features for affine in self.synthesis.affines()])

    def styles(self, w_plus: Tensor) -> list[Tensor]:
        return [affine(w_plus[:, row]) for row, affine in enumerate(self.synthesis.affines())]

    def render(
        self,
        styles: Sequence[Tensor],
        noise: NoiseMode = "const",
        *,
        dtype: torch.dtype | None = None,
        resolution: int | None = None,
    ) -> Tensor:
        """As `Renderer.render`; there is no noise, whatever `noise` says, and no smaller image."""
        if resolution not in (None, self.config.img_resolution):
            raise UsageError(f"this generator renders {self.config.img_resolution} px, not {resolution}")
        return self.synthesis(styles, dtype or torch.float32)

    def modulation(self, layer: int) -> tuple[Tensor, Tensor]:
        affine = self.synthesis.affines()[layer]
        return affine.weight, affine.bias

    def early_features(self, w: Tensor) -> Tensor:
        first = self.synthesis.layers[0]
        return first(self.synthesis.input(self.synthesis.input.affine(w)), first.get_submodule("affine")(w))
