"""What every generator can do, whatever its architecture: w to styles to images, and what editing asks of it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from stkit.contracts.shapes import Shape
from stkit.errors import LatentsError
from stkit.models.mapping import MappingNetwork

NoiseMode = Literal["const", "random", "none"]


@dataclass(frozen=True)
class StyleLayer:
    """A layer of StyleSpace (Wu et al., CVPR 2021): its number, the row of w_plus that steers it, its channels.

    `index` is what people name it by; `kind` is "image" for layers that make an image of features, otherwise "conv".
    """

    index: int
    w_index: int
    width: int
    kind: Literal["conv", "image"]


class Renderer(ABC):
    """The synthesis of a generator: codes to styles, styles to images."""

    @abstractmethod
    def styles(self, w_plus: Tensor) -> list[Tensor]:
        """StyleSpace of w_plus [B, num_ws, w_dim]: one [B, width] a style layer, in the order of `style_layers`."""

    @abstractmethod
    def render(self, styles: Sequence[Tensor], noise: NoiseMode = "const", *, resolution: int | None = None) -> Tensor:
        """Images [B, 3, R, R], float32, about [-1, 1] and not clamped.

        `resolution` asks for a smaller image, where the architecture has a cheap one; otherwise UsageError.
        """

    def synthesize(self, w_plus: Tensor, noise: NoiseMode = "const", *, resolution: int | None = None) -> Tensor:
        """w_plus [B, num_ws, w_dim] to images [B, 3, R, R], as `render`."""
        return self.render(self.styles(w_plus), noise, resolution=resolution)


class Generator(nn.Module, Renderer):
    """A generator of the StyleGAN family. `w_avg` [w_dim] is the mean of the mapping network's output.

    Its parameters are those of `mapping`, z [B, z_dim] to w [B, w_dim], and of `synthesis`, which tuning changes.
    """

    architecture: ClassVar[str]
    """Its name in the headers of weights files."""
    exact_half: ClassVar[bool] = False
    """Whether it renders half the resolution directly, exactly as the mean of 2 x 2 pixels of the full image."""
    config: Shape
    mapping: MappingNetwork
    synthesis: nn.Module
    w_avg: Tensor

    def __init__(self, config: Shape, mapping_layers: int) -> None:
        """`config`, a mapping network of that many layers, and `w_avg`; an architecture adds its `synthesis`."""
        super().__init__()
        self.config = config
        self.mapping = MappingNetwork(config.z_dim, config.w_dim, mapping_layers)
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    @property
    def seen_resolution(self) -> int:
        """Side in pixels at which images are judged: half its own, where that is cheap and shows enough."""
        full = self.config.img_resolution
        return full // 2 if self.exact_half and full >= 512 else full

    @abstractmethod
    def render(
        self,
        styles: Sequence[Tensor],
        noise: NoiseMode = "const",
        *,
        dtype: torch.dtype | None = None,
        resolution: int | None = None,
    ) -> Tensor:
        """As `Renderer.render`, with features in `dtype`; differentiable."""

    def synthesize(
        self,
        w_plus: Tensor,
        noise: NoiseMode = "const",
        *,
        dtype: torch.dtype | None = None,
        resolution: int | None = None,
    ) -> Tensor:
        """w_plus [B, num_ws, w_dim] to images [B, 3, R, R], as `render`."""
        return self.render(self.styles(w_plus), noise, dtype=dtype, resolution=resolution)

    @abstractmethod
    def style_layers(self) -> list[StyleLayer]:
        """The layers of StyleSpace, in the order of `styles`."""

    @abstractmethod
    def modulation(self, layer: int) -> tuple[Tensor, Tensor]:
        """Weight [width, w_dim] and bias [width] of the affine map from w to the style layer `layer`."""

    @abstractmethod
    def early_features(self, w: Tensor) -> Tensor:
        """Activations [B, ...] of the first convolution for w [B, w_dim], without noise (GANSpace's layer)."""

    def noise_maps(self) -> dict[str, Tensor]:
        """The fixed noise maps [R, R] that the image depends on, by the names of their buffers; perhaps none.

        By default the buffers called `noise_const` whose `noise_strength` is not 0.
        """
        layers = [name.removesuffix(".noise_const") for name, _ in self.named_buffers() if name.endswith("noise_const")]
        used = [name for name in layers if self.get_parameter(f"{name}.noise_strength") != 0]
        return {f"{name}.noise_const": self.get_buffer(f"{name}.noise_const") for name in used}

    def freeze(self, dtype: torch.dtype = torch.float32) -> Renderer:
        """A copy of the synthesis for inference, on the same device, its features in `dtype`: as fast as it goes.

        By default one that computes as `render` does.
        """
        return _Copy(copy.deepcopy(self).eval().requires_grad_(False), dtype)

    def map(self, z: Tensor, truncation_psi: float = 1.0, truncation_cutoff: int | None = None) -> Tensor:
        """z [B, z_dim] to w_plus [B, num_ws, w_dim], truncated in the first `truncation_cutoff` layers."""
        return self.truncate(self.broadcast(self.mapping(z)), truncation_psi, truncation_cutoff)

    def broadcast(self, w: Tensor) -> Tensor:
        """w [B, w_dim] to w_plus [B, num_ws, w_dim]."""
        return w[:, None].expand(-1, self.config.num_ws, -1)

    def truncate(self, w_plus: Tensor, truncation_psi: float, truncation_cutoff: int | None = None) -> Tensor:
        """Move w_plus towards `w_avg`: w_avg + psi * (w - w_avg), in the first `truncation_cutoff` layers."""
        if truncation_psi == 1.0:
            return w_plus
        cutoff = self.config.num_ws if truncation_cutoff is None else truncation_cutoff
        coarse = self.w_avg + truncation_psi * (w_plus[:, :cutoff] - self.w_avg)
        return torch.cat([coarse, w_plus[:, cutoff:]], 1)

    def forward(
        self,
        z: Tensor,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise: NoiseMode = "const",
        *,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """z [B, z_dim] to images [B, 3, R, R]."""
        return self.synthesize(self.map(z, truncation_psi, truncation_cutoff), noise, dtype=dtype)

    @torch.no_grad()
    def compute_w_avg(self, samples: int = 10_000, seed: int = 0) -> Tensor:
        """Mean w [w_dim] over `samples` random z."""
        random = torch.Generator().manual_seed(seed)
        z = torch.randn(samples, self.config.z_dim, generator=random).to(self.w_avg.device)
        return self.mapping(z).mean(0)


@dataclass(frozen=True, eq=False)
class _Copy(Renderer):
    """A generator as it is, for architectures that have nothing faster."""

    generator: Generator
    dtype: torch.dtype

    @torch.no_grad()
    def styles(self, w_plus: Tensor) -> list[Tensor]:
        return self.generator.styles(w_plus)

    @torch.no_grad()
    def render(self, styles: Sequence[Tensor], noise: NoiseMode = "const", *, resolution: int | None = None) -> Tensor:
        return self.generator.render(styles, noise, dtype=self.dtype, resolution=resolution)


def layers_by_row(widths: Sequence[int]) -> list[StyleLayer]:
    """The style layers of a generator in which each row of w_plus steers one, and the last makes the image."""
    last = len(widths) - 1
    return [StyleLayer(row, row, width, "image" if row == last else "conv") for row, width in enumerate(widths)]


def add_style_offsets(styles: Sequence[Tensor], offsets: Tensor) -> list[Tensor]:
    """`styles` (one [B, in_channels] a layer) plus `offsets` [B, channels of all layers], layer after layer.

    Raises LatentsError when the generator has another number of channels.
    """
    widths = [style.shape[1] for style in styles]
    if offsets.shape[1] != sum(widths):
        raise LatentsError(
            f"the latents have offsets for {offsets.shape[1]} style channels, and the generator has {sum(widths)}; "
            f"choose the weights they were made with"
        )
    return [style + offset for style, offset in zip(styles, offsets.split(widths, 1), strict=True)]


__all__ = ["Generator", "NoiseMode", "Renderer", "StyleLayer", "add_style_offsets", "layers_by_row"]
