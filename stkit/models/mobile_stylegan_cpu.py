"""The MobileStyleGAN synthesis frozen for a CPU.

What depends on the weights alone is computed once. Samples go through one by one, so the style is part of their
weights. The feature maps of a block are made in strips of rows that stay in the caches, each with the rows around it
that its convolutions look at. Channels are ordered so that a processor's vector of them is transformed on its own.
The oracle is the `ref` path of `MobileSynthesis`. bfloat16 is for processors that multiply it natively.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stkit.models import mobile_stylegan_ops as ops
from stkit.models.generators import NoiseMode, Renderer
from stkit.models.mobile_stylegan_synthesis import Block, First, MobileSynthesis, Separable, ToImage
from stkit.models.strips import in_strips

_STRIP_BYTES = 2**21
"""Of the widest map of a strip: a few of them fit into the caches of a core, and calls are few enough not to count."""
_GROUP = 16
"""Channels that are transformed together."""


@dataclass(frozen=True, eq=False)
class StripRenderer(Renderer):
    """A synthesis network with features in the dtype of its weights."""

    network: MobileSynthesis
    """Its affine layers and its shape; a copy."""
    first: _First
    blocks: Sequence[_Block]
    image: _Image
    half_image: _Image

    @classmethod
    def of(cls, network: MobileSynthesis, dtype: torch.dtype) -> StripRenderer:
        """`network` as it is now."""
        blocks = [block for block in network.blocks if isinstance(block, Block)]
        orders = [_order(block.up_affine.out_features) for block in blocks]
        ends = [*orders[1:], torch.arange(network.to_image.weight.shape[1])]
        return cls(
            copy.deepcopy(network).requires_grad_(False),
            _First.of(network.first, orders[0], dtype),
            [_Block.of(*each, dtype) for each in zip(blocks, orders, ends, strict=True)],
            _Image.of(network.to_image, False, dtype),
            _Image.of(network.to_image, True, dtype),
        )

    @torch.no_grad()
    def styles(self, w_plus: Tensor) -> list[Tensor]:
        return self.network.styles(w_plus)

    @torch.no_grad()
    def render(self, styles: Sequence[Tensor], noise: NoiseMode = "const", *, resolution: int | None = None) -> Tensor:
        """As `Renderer.render`; the full resolution, or half of it."""
        half = self.network.renders_half(resolution)
        size = self.network.img_resolution // (2 if half else 1)
        images = torch.empty(styles[0].shape[0], 3, size, size)
        for image, *sample in zip(images, *styles, strict=True):
            self._draw(image, sample, noise, self.half_image if half else self.image)
        return images

    def _draw(self, image: Tensor, styles: Sequence[Tensor], noise: NoiseMode, to_image: _Image) -> None:
        """The image of one sample, each style [in_channels], into `image` [3, R, R]."""
        x = self.first(styles[0], noise)
        for i, block in enumerate(self.blocks[:-1]):
            x = block.modulate(styles[1 + 3 * i : 4 + 3 * i], noise)(x)
        last = self.blocks[-1].modulate(styles[-4:-1], noise)
        weight = to_image.modulate(styles[-1])

        def draw(start: int, stop: int) -> None:
            to_image.draw(image, weight, last.rows(x, start, stop, None), start)

        in_strips(draw, last.strips(x))


@dataclass(frozen=True, eq=False)
class _First:
    """`First` on one sample."""

    const: Tensor  # [in, 4, 4], the gain in it
    weight: Tensor
    bias: Tensor
    noise: _Noise

    @classmethod
    def of(cls, layer: First, order: Tensor, dtype: torch.dtype) -> _First:
        """With its channels in `order`."""
        weight = layer.weight[order].to(dtype)
        return cls(layer.const * layer.gain, weight, layer.bias[order].to(dtype), _Noise.of(layer, dtype))

    def __call__(self, style: Tensor, noise: NoiseMode) -> Tensor:
        """[in] to [1, C, 4, 4]."""
        x = (self.const * style[:, None, None]).to(self.weight.dtype)[None]
        y = _conv(x.contiguous(memory_format=torch.channels_last), self.weight, self.bias, 1)
        grid = self.noise(noise)
        return F.leaky_relu_(y if grid is None else y.add_(grid), ops.SLOPE)


@dataclass(frozen=True, eq=False)
class _Block:
    """`Block` on one sample."""

    order: Tensor  # of the channels that come in
    transform: Tensor  # [4C, group, 2, 2]
    conv1: _Separable
    conv2: _Separable

    @classmethod
    def of(cls, block: Block, order: Tensor, end: Tensor, dtype: torch.dtype) -> _Block:
        """With its input's channels in `order` and its output's in `end`."""
        group = _group(len(order) // 4)
        return cls(
            order.clone(),
            ops.haar_kernel(group, torch.empty(())).repeat(len(order) // 4 // group, 1, 1, 1),
            _Separable.of(block.conv1, torch.arange(block.conv1.pointwise.shape[0]), dtype),
            _Separable.of(block.conv2, end, dtype),
        )

    def modulate(self, styles: Sequence[Tensor], noise: NoiseMode) -> _Modulated:
        """Its weights for a sample with the three `styles`."""
        up, first, second = styles
        transform = (self.transform * up[self.order][:, None, None, None]).to(self.conv1.pointwise.dtype)
        return _Modulated(transform, self.conv1.modulate(first, noise), self.conv2.modulate(second, noise))


@dataclass(frozen=True, eq=False)
class _Modulated:
    """The weights of a `_Block` for one sample."""

    transform: Tensor
    conv1: tuple[Tensor, _Separable, Tensor | None]
    conv2: tuple[Tensor, _Separable, Tensor | None]

    def __call__(self, x: Tensor) -> Tensor:
        """[1, in, H, W] to [1, out, 2H, 2W]."""
        size = 2 * x.shape[-1]
        shape = (1, self.conv2[1].pointwise.shape[0], size, size)
        y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)

        def write(start: int, stop: int) -> None:
            self.rows(x, start, stop, y[:, :, start:stop])

        in_strips(write, self.strips(x))
        return y

    def strips(self, x: Tensor) -> list[tuple[int, int]]:
        """First row and row after the last, all even, of strips of the output for the input `x`."""
        size, (out, inner) = 2 * x.shape[-1], self.conv2[1].pointwise.shape[:2]
        rows = max(_STRIP_BYTES // (size * max(out, inner) * x.element_size()) // 2 * 2, 2)
        return [(start, min(start + rows, size)) for start in range(0, size, rows)]

    def rows(self, x: Tensor, start: int, stop: int, out: Tensor | None) -> Tensor:
        """The rows from `start` to `stop`, both even, of the output for the input [1, in, H, W]; written to `out`."""
        height = 2 * x.shape[2]
        low, high = max(start - 2, 0), min(stop + 2, height)
        groups = self.transform.shape[0] // (4 * self.transform.shape[1])
        y = F.conv_transpose2d(x[:, :, low // 2 : high // 2], self.transform, stride=2, groups=groups)
        low1, high1 = max(start - 1, 0), min(stop + 1, height)
        y = _separable(y, *self.conv1, low, (low1, high1), None)
        return _separable(y, *self.conv2, low1, (start, stop), out)


@dataclass(frozen=True, eq=False)
class _Separable:
    """`Separable` on one sample."""

    depthwise: Tensor  # [in, 1, 3, 3], float32, the gain in it
    pointwise: Tensor
    bias: Tensor
    noise: _Noise

    @classmethod
    def of(cls, layer: Separable, order: Tensor, dtype: torch.dtype) -> _Separable:
        """With its output's channels in `order`."""
        pointwise, bias = layer.pointwise[order].to(dtype), layer.bias[order].to(dtype)
        return cls(layer.depthwise * layer.gain, pointwise, bias, _Noise.of(layer, dtype))

    def modulate(self, style: Tensor, noise: NoiseMode) -> tuple[Tensor, _Separable, Tensor | None]:
        """The depthwise weights of a sample, this, and the noise."""
        return (self.depthwise * style[:, None, None, None]).to(self.pointwise.dtype), self, self.noise(noise)


def _separable(
    x: Tensor,
    depthwise: Tensor,
    layer: _Separable,
    noise: Tensor | None,
    first_row: int,
    rows: tuple[int, int],
    out: Tensor | None,
) -> Tensor:
    """`rows` of the output for an input that begins at `first_row` of its map; written to `out`, if there is one.

    The input's border counts as zeros, which only those rows may see that are at the border of the map.
    """
    start, stop = rows
    x = _conv(x, depthwise, None, 1, groups=len(depthwise))[:, :, start - first_row : stop - first_row]
    if noise is None and out is None:
        return _conv(x, layer.pointwise, layer.bias, 0, leaky=True)
    y = _conv(x, layer.pointwise, layer.bias, 0)
    if noise is not None:
        y += noise[:, :, start:stop]
    return torch.ops.aten.leaky_relu(y, ops.SLOPE, out=y if out is None else out)


@dataclass(frozen=True, eq=False)
class _Image:
    """`ToImage` on one sample."""

    weight: Tensor  # [3 or 12, in, 1, 1], float32
    bias: Tensor
    dtype: torch.dtype

    @classmethod
    def of(cls, layer: ToImage, half: bool, dtype: torch.dtype) -> _Image:
        weight, bias = layer.pixels(half)
        return cls(weight * layer.gain, bias[:, None, None].clone(), dtype)

    def modulate(self, style: Tensor) -> Tensor:
        """The weights of a sample."""
        return (self.weight * style[:, None, None]).to(self.dtype)

    def draw(self, image: Tensor, weight: Tensor, x: Tensor, start: int) -> None:
        """What the rows `x` of the features, from `start` on, make of `image` [3, R, R]."""
        pixels = _conv(x, weight, None, 0)[0].to(torch.float32, memory_format=torch.contiguous_format) + self.bias
        if len(pixels) == 3:
            image[:, start : start + x.shape[2]] = pixels
        else:
            image[:, 2 * start : 2 * (start + x.shape[2])] = F.pixel_shuffle(pixels, 2)


@dataclass(frozen=True, eq=False)
class _Noise:
    """The noise of a layer."""

    const: Tensor | None  # [1, 1, R, R]; None where it has no strength
    strength: Tensor
    size: tuple[int, int]

    @classmethod
    def of(cls, layer: First | Separable, dtype: torch.dtype) -> _Noise:
        const = (layer.noise_const * layer.noise_strength).to(dtype)[None, None]
        size = (layer.noise_const.shape[0], layer.noise_const.shape[1])
        return cls(const if layer.noise_strength != 0 else None, layer.noise_strength.clone(), size)

    def __call__(self, mode: NoiseMode) -> Tensor | None:
        """[1, 1, R, R], if there is any."""
        if self.const is None or mode == "const":
            return self.const
        return None if mode == "none" else (torch.randn(1, 1, *self.size) * self.strength).to(self.const.dtype)


def runs_in_strips(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a `StripRenderer` is for that."""
    return device.type == "cpu" and dtype in (torch.float32, torch.bfloat16)


def _conv(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, groups: int = 1, leaky: bool = False) -> Tensor:
    """A convolution, with a leaky ReLU where `leaky`."""
    if _fuses(x.dtype):
        attribute, slope = ("leaky_relu", [ops.SLOPE]) if leaky else ("none", [])
        geometry = ([padding, padding], [1, 1], [1, 1], groups)
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *geometry, attribute, slope, None)
    y = F.conv2d(x, weight, bias, padding=padding, groups=groups)
    return F.leaky_relu_(y, ops.SLOPE) if leaky else y


def _fuses(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there with the fused convolution that torch's own compiler uses; it is also the faster one."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    return dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _group(channels: int) -> int:
    return _GROUP if channels % _GROUP == 0 else channels


def _order(bands: int) -> Tensor:
    """The channels of [4C] bands as `inverse_haar` has them, in groups of channels: their low bands, their details."""
    channels = torch.arange(bands // 4)
    groups = channels.split(_group(len(channels)))
    return torch.cat([torch.cat([g, len(channels) + (3 * g[:, None] + torch.arange(3)).flatten()]) for g in groups])


__all__ = ["StripRenderer", "runs_in_strips"]
