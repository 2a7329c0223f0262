"""Principal components of an early layer's activations, carried over to w by regression."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stkit.plugin import Weights, load_generator, middle_range, row_signs, sample_w
from stkit_ganspace.stored import Stored

SAMPLES = 5_000
COUNT = 20


@dataclass(frozen=True, eq=False)
class ActivationComponents:
    """`directions` [K, w_dim] unit rows, `units` [K] the step in w for one standard deviation of the component,
    `shares` [K] of the activations' variance, `limits` [K, 2] the middle 99% of samples in standard deviations."""

    directions: Tensor
    units: Tensor
    shares: Tensor
    limits: Tensor


STORED = Stored(
    "ganspace-activations",
    "GANSpace's activation components",
    ActivationComponents,
    {"directions": ["K", "D"], "units": ["K"], "shares": ["K"], "limits": ["K", 2]},
    {"samples": SAMPLES, "space": "activations of the first convolution"},
)


def count_activations(weights: Weights) -> int:
    """How many components there are to fit."""
    generator = load_generator(weights)
    return min(COUNT, weights.w_dim, generator.early_features(generator.w_avg[None]).numel())


def load_activations(weights: Weights) -> ActivationComponents:
    """The components of the weights' generator: shipped with it, from the cache, or fitted now (seconds) and cached."""
    return STORED.load(weights, fit_activations)


@torch.inference_mode()
def fit_activations(
    weights: Weights, samples: int = SAMPLES, count: int = COUNT, seed: int = 0
) -> ActivationComponents:
    """PCA of the first convolution's activations (4 x 4, without noise), and the least-squares map from them to w.

    Härkönen et al. 2020, section 2.2: with x_j the PCA coordinates of the activations of w_j, the basis U minimises
    sum |U x_j - w_j|^2, and its columns are the directions. The components of an early layer are about layout.
    """
    from sklearn.decomposition import PCA

    w = sample_w(weights, samples, seed)
    generator = load_generator(weights)
    activations = torch.cat([generator.early_features(part).flatten(1) for part in w.split(250)]).numpy()
    count = min(count, weights.w_dim, activations.shape[1])
    pca = PCA(count, svd_solver="randomized", random_state=0).fit(activations)
    x = torch.from_numpy(pca.transform(activations)).double()
    centred = w.double() - w.double().mean(0)
    basis = torch.linalg.lstsq(x, centred).solution  # [K, w_dim]
    signs = row_signs(basis)
    basis, x = basis * signs, x * signs.T
    stds, lengths = x.std(0), basis.norm(dim=1).clamp(min=1e-12)
    limits = middle_range(x / stds.clamp(min=1e-12))
    shares = torch.from_numpy(pca.explained_variance_ratio_)
    found = (basis / lengths[:, None], lengths * stds, shares, limits)
    return ActivationComponents(*(value.float().clone() for value in found))


__all__ = ["STORED", "ActivationComponents", "count_activations", "fit_activations", "load_activations"]
