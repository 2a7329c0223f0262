"""How far two sets of images are apart: Frechet and kernel distance of features, sliced Wasserstein distance."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from stkit.datasets.images import batches
from stkit.errors import UsageError
from stkit.measure.efficientnet import INPUT_WIDTH, EfficientNetLite0
from stkit.photo.images import resize_batch

_PATCH = 7
_PATCHES = 128
_DIRECTIONS = (4, 128)


@torch.no_grad()
def lite0_features(network: EfficientNetLite0, images: Iterable[Tensor]) -> Tensor:
    """Features [N, 1280] of batches of images [B, 3, H, W] in [-1, 1], clamped and resized to a width of 224."""
    device = next(network.parameters()).device
    return torch.cat([network(resize_batch(part.to(device).clamp(-1, 1), INPUT_WIDTH)).float() for part in images])


def frechet_distance(features: Tensor, references: Tensor) -> float:
    """Squared Frechet distance between Gaussians fitted to `features` [N, D] and `references` [M, D].

    Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017. It is called FID only with the
    features of their Inception network. Raises UsageError with fewer than two rows.
    """
    if min(len(features), len(references)) < 2:
        raise UsageError(f"a Frechet distance needs two images at least, got {len(features)} and {len(references)}")
    (mean_a, cov_a), (mean_b, cov_b) = (
        (rows.mean(0), torch.cov(rows.T)) for rows in (features.cpu().double(), references.cpu().double())
    )
    values, axes = torch.linalg.eigh(cov_a)
    root = (axes * values.clamp(min=0).sqrt()) @ axes.T
    shared = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * shared
    return max(float(distance), 0.0)


def kernel_distance(features: Tensor, references: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy of `features` [N, D] and `references` [M, D]; it may be below 0.

    By the cubic kernel (x.y / D + 1)^3 of Binkowski et al., "Demystifying MMD GANs", ICLR 2018, of all rows at once.
    Of as many rows, which may be pairs, each is compared with the others alone (Gretton et al. 2012, lemma 6).
    Raises UsageError with fewer than two rows.
    """
    if min(len(features), len(references)) < 2:
        raise UsageError(f"a kernel distance needs two images at least, got {len(features)} and {len(references)}")
    a, b = features.cpu().double(), references.cpu().double()

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def of_others(values: Tensor) -> Tensor:
        return (values.sum() - values.diagonal().sum()) / (len(values) * (len(values) - 1))

    between = of_others(kernel(a, b)) if len(a) == len(b) else kernel(a, b).mean()
    return float(of_others(kernel(a, a)) + of_others(kernel(b, b)) - 2 * between)


@torch.no_grad()
def sliced_wasserstein(images: Tensor, references: Tensor, seed: int = 0) -> dict[str, float]:
    """`swd_H` for each level of a Laplacian pyramid that is H pixels high, and their mean as `swd`, all x 1e3.

    Karras et al., "Progressive Growing of GANs", ICLR 2018, section 5: 128 patches of 7x7 an image and level, channels
    normalised by set (by n, not n - 1), 4 x 128 random directions. Of sets [N, 3, H, W] in [-1, 1] of different sizes
    the larger is cut. Levels go down to 16 px. Raises UsageError for images of other shapes or below 16 px.
    """
    if images.shape[1:] != references.shape[1:] or min(images.shape[2:]) < 16 or not len(images) * len(references):
        raise UsageError(
            f"SWD compares sets of images of one size from 16 px, got {list(images.shape)} and {list(references.shape)}"
        )
    count = min(len(images), len(references))
    ours, theirs = (_pyramid_patches(part[:count], seed) for part in (images.clamp(-1, 1), references))
    random = torch.Generator().manual_seed(seed)
    result = {}
    for height, a in ours.items():
        distances = []
        for _ in range(_DIRECTIONS[0]):
            directions = F.normalize(torch.randn(a.shape[1], _DIRECTIONS[1], generator=random), dim=0).to(a)
            a_sorted, b_sorted = ((rows @ directions).sort(0).values for rows in (a, theirs[height]))
            distances.append((a_sorted - b_sorted).abs().mean())
        result[f"swd_{height}"] = 1e3 * float(torch.stack(distances).mean())
    return {**result, "swd": sum(result.values()) / len(result)}


def _pyramid_patches(images: Tensor, seed: int) -> dict[int, Tensor]:
    """Normalised patches [N * 128, 3 * 7 * 7] by the height of their level, at the same places for the same seed."""
    random = torch.Generator().manual_seed(seed)
    found: dict[int, list[Tensor]] = {}
    for part in batches(images, 64):
        for level in _laplacian_pyramid(part):
            found.setdefault(level.shape[2], []).append(_patches(level, random))
    return {height: _normalise(torch.cat(parts)).flatten(1) for height, parts in found.items()}


def _normalise(patches: Tensor) -> Tensor:
    std, mean = torch.std_mean(patches, (0, 2, 3), correction=0, keepdim=True)
    return (patches - mean) / std.clamp(min=1e-8)


def _laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """Band-pass levels, finest first, and the low-pass rest; halved while both sides are even and 32 px or more."""
    levels = []
    while min(images.shape[2:]) >= 32 and images.shape[2] % 2 == images.shape[3] % 2 == 0:
        smaller = _blur(images)[:, :, ::2, ::2]
        spread = torch.zeros_like(images)
        spread[:, :, ::2, ::2] = 4 * smaller
        levels.append(images - _blur(spread))
        images = smaller
    return [*levels, images]


def _blur(images: Tensor) -> Tensor:
    line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16
    kernel = (line[:, None] * line).expand(3, 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), kernel, groups=3)


def _patches(images: Tensor, random: torch.Generator) -> Tensor:
    """128 random patches of each image [N, 3, H, W]: [N * 128, 3, 7, 7]."""
    count, _, height, width = images.shape
    y = torch.randint(height - _PATCH + 1, (count, _PATCHES, 1, 1), generator=random) + torch.arange(_PATCH)[:, None]
    x = torch.randint(width - _PATCH + 1, (count, _PATCHES, 1, 1), generator=random) + torch.arange(_PATCH)
    index = (y * width + x).reshape(count, 1, -1).expand(-1, 3, -1).to(images.device)
    found = images.flatten(2).gather(2, index).reshape(count, 3, _PATCHES, _PATCH, _PATCH)
    return found.transpose(1, 2).flatten(0, 1)


__all__ = ["frechet_distance", "kernel_distance", "lite0_features", "sliced_wasserstein"]
