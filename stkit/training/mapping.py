"""A mapping network for a generator trained by reconstruction: z ~ N(0, I) is made to cover the codes.

The first approximation is their Gaussian, which the network gives exactly and without training; from there
`stkit.training.mapping_gan` goes on, for codes that are no Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from stkit.contracts.inversion import ignore_progress
from stkit.datasets.images import ImageSet, batches
from stkit.errors import UsageError
from stkit.models.generators import Generator
from stkit.models.mapping import MappingNetwork
from stkit.models.ops import EqualLinear
from stkit.models.precision import autocast
from stkit.models.style_transformer import StyleTransformer
from stkit.photo.images import resize_batch

_SLOPE = 0.2  # of the leaky ReLU
_STRAIGHT = 5.0  # standard deviations; z beyond them is as good as never drawn


@torch.no_grad()
def fit_mapping(generator: Generator, codes: Tensor, seed: int = 0) -> dict[str, float]:
    """Make `generator.mapping` give the Gaussian of `codes` [N, w_dim], in place, and set `w_avg` to their mean.

    Returns the figures of `compare_codes` between samples of the network and a tenth of the codes that was held out
    for it, and, with the prefix `floor_`, those of the other codes in place of samples: what a perfect network would
    get. Raises UsageError for fewer than 20 codes and for codes that are not finite.
    """
    if codes.ndim != 2 or len(codes) < 20 or not torch.isfinite(codes).all():
        raise UsageError(f"the mapping network needs at least 20 finite codes [N, w_dim], got {list(codes.shape)}")
    random = torch.Generator().manual_seed(seed)
    device = generator.w_avg.device
    codes = codes.to(device, torch.float32)[torch.randperm(len(codes), generator=random).to(device)]
    held_out, kept = codes[: len(codes) // 10], codes[len(codes) // 10 :]
    z = torch.randn(len(kept), generator.config.z_dim, generator=random).to(device)
    set_gaussian(generator.mapping, *moments(kept))
    figures = compare_codes(generator.mapping(z), held_out, kept)
    floor = compare_codes(kept, held_out, kept)
    del floor["nearest"]  # of a code to itself
    mean, root = moments(codes)
    set_gaussian(generator.mapping, mean, root)
    generator.w_avg.copy_(mean)
    return {**figures, **{f"floor_{name}": value for name, value in floor.items()}}


def moments(codes: Tensor) -> tuple[Tensor, Tensor]:
    """The mean [D] of `codes` [N, D] and a root [D, D] of their covariance: scaled principal axes, longest first."""
    mean = codes.mean(0)
    covariance = (codes - mean).T @ (codes - mean) / len(codes)
    variances, axes = torch.linalg.eigh(covariance.cpu())  # not every version of torch has it on every device
    return mean, (axes * variances.clamp(min=0).sqrt()).flip(1).to(codes.device)


@torch.no_grad()
def set_gaussian(mapping: MappingNetwork, mean: Tensor, root: Tensor) -> None:
    """Set the layers so that mapping(z) = mean + root @ pixel_norm(z), for `mean` [w_dim] and `root` [w_dim, w_dim].

    Where z has fewer dimensions than w, it moves along the first axes (columns) of `root` alone.

    Two leaky ReLU layers undo each other when the second has the weight -1 / slope, so a pair of layers can be any
    affine map. An odd first layer passes z on, lifted to where its leaky ReLU is straight.
    """
    layers = linear_layers(mapping)
    count, width, z_dim = len(layers), len(mean), layers[0].weight.shape[1]
    lifted = 0.0
    for i, layer in enumerate(layers):
        inputs = layer.weight.shape[1]
        matrix, bias = torch.eye(width, inputs, device=mean.device), torch.zeros_like(mean)
        opens_pair = (count - i) % 2 == 0
        if i == count - 2:
            used = min(z_dim, width)
            matrix = F.pad(root[:, :used], (0, inputs - used))
            bias = mean
        if opens_pair:
            matrix, bias, lifted = -matrix, lifted * matrix.sum(1) - bias, 0.0
        elif i == 0:
            bias, lifted = bias + _STRAIGHT, _STRAIGHT
        else:
            matrix = matrix / -_SLOPE
        set_layer(layer, matrix, bias)


def linear_layers(mapping: MappingNetwork) -> list[EqualLinear]:
    """The layers of `mapping`, first to last."""
    return [layer for layer in mapping.layers if isinstance(layer, EqualLinear)]


@torch.no_grad()
def set_layer(layer: EqualLinear, matrix: Tensor, bias: Tensor) -> None:
    """Make `layer` give leaky_relu(matrix @ x + bias) without the gain of `ops.leaky_relu`."""
    layer.weight.copy_(matrix / (math.sqrt(2) * layer.scale))
    layer.bias.copy_(bias / (math.sqrt(2) * layer.lr_mul))


@torch.no_grad()
def set_affine_pair(first: EqualLinear, second: EqualLinear, matrix: Tensor, bias: Tensor) -> None:
    """Make two layers in a row give matrix @ x + bias: their leaky ReLUs undo each other."""
    set_layer(first, -matrix, -bias)
    set_layer(second, torch.eye(len(bias), device=bias.device) / -_SLOPE, torch.zeros_like(bias))


@torch.no_grad()
def mean_codes(
    inverter: StyleTransformer,
    images: ImageSet,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    on_progress: Callable[[int, int], None] = ignore_progress,
) -> Tensor:
    """The mean over the layers of each image's w_plus, and of its mirror image's: [2N, w_dim] on `device`."""
    codes = []
    for indices in batches(torch.arange(len(images)), 32):
        part = resize_batch(images.batch(indices, device), inverter.config.input_resolution)
        with autocast(device, dtype):
            codes += [inverter(part).mean(1), inverter(part.flip(3)).mean(1)]
        on_progress(int(indices[-1]) + 1, len(images))
    return torch.cat(codes).float()


def compare_codes(samples: Tensor, held_out: Tensor, codes: Tensor) -> dict[str, float]:
    """How `samples` [M, D] fit `held_out` [K, D], which are no part of `codes` [N, D].

    Over the principal axes of `codes` that hold 95% of the variance, in standard deviations: `wasserstein`, the mean
    distance of the marginals; `spread`, the mean ratio of standard deviations; `skew`, the mean difference of
    skewness. `nearest`: the median distance of samples to their nearest of `codes`, over that of `held_out`: below 1
    samples crowd, above 1 they stray.
    """
    mean, root = moments(codes)
    deviations = root.norm(dim=0)
    share = deviations.square().cumsum(0) / deviations.square().sum()
    leading = int((share < 0.95).sum()) + 1
    axes = root[:, :leading] / deviations[:leading].square()
    ours, theirs = (samples - mean) @ axes, (held_out - mean) @ axes
    levels = torch.linspace(0.005, 0.995, 100, device=samples.device)
    return {
        "wasserstein": float((ours.quantile(levels, 0) - theirs.quantile(levels, 0)).abs().mean()),
        "spread": float((ours.std(0) / theirs.std(0)).mean()),
        "skew": float((_skew(ours) - _skew(theirs)).abs().mean()),
        "nearest": float(_nearest(samples[: len(held_out)], codes) / _nearest(held_out, codes)),
    }


def _skew(values: Tensor) -> Tensor:
    centred = values - values.mean(0)
    return centred.pow(3).mean(0) / centred.square().mean(0).pow(1.5)


def _nearest(points: Tensor, codes: Tensor) -> Tensor:
    """Median distance of `points` to the nearest of `codes`."""
    return torch.cat([torch.cdist(part, codes).amin(1) for part in batches(points, 500)]).median()


__all__ = [
    "compare_codes",
    "fit_mapping",
    "linear_layers",
    "mean_codes",
    "moments",
    "set_affine_pair",
    "set_gaussian",
    "set_layer",
]
