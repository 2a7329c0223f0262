"""The principal components of a generator's w, fitted with scikit-learn and kept beside the weights or in the cache."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stkit.plugin import Weights, WeightsError, middle_range, row_signs, sample_w
from stkit_ganspace.stored import Stored

SAMPLES = 50_000
COUNT = 40


@dataclass(frozen=True, eq=False)
class Components:
    """`directions` [K, w_dim] unit rows, `mean` [w_dim], `stds` [K], `variance` of w (a scalar), `limits` [K, 2]."""

    directions: Tensor
    mean: Tensor
    stds: Tensor
    variance: Tensor
    limits: Tensor

    @property
    def shares(self) -> list[float]:
        """Each component's share of the variance of w, 0 to 1."""
        return (self.stds.square() / self.variance).tolist()

    @property
    def safe_ranges(self) -> list[tuple[float, float]]:
        """The middle 99% of samples along each component, in standard deviations."""
        return [(round(low, 1), round(high, 1)) for low, high in self.limits.tolist()]


STORED = Stored(
    "ganspace",
    "GANSpace components",
    Components,
    {"directions": ["K", "D"], "mean": ["D"], "stds": ["K"], "variance": [], "limits": ["K", 2]},
    {"samples": SAMPLES, "space": "w"},
)


def load_components(weights: Weights) -> Components:
    """The components of the weights' generator: shipped with it, from the cache, or fitted now and cached."""
    return STORED.load(weights, fit_components)


def fit_components(weights: Weights, samples: int = SAMPLES, count: int = COUNT, seed: int = 0) -> Components:
    """PCA of w over `samples` random z; the sign of a component is that of its largest entry."""
    from sklearn.decomposition import PCA

    w = sample_w(weights, samples, seed)
    if not w.var(0).any():
        raise WeightsError(f"weights '{weights.name}' make one w of every z: their mapping network is damaged")
    pca = PCA(min(count, weights.w_dim), svd_solver="covariance_eigh").fit(w.double().numpy())
    directions = torch.from_numpy(pca.components_)
    directions = directions * row_signs(directions)
    mean, stds = torch.from_numpy(pca.mean_), torch.from_numpy(pca.explained_variance_).sqrt()
    scores = (w.double() - mean) @ directions.T / stds.clamp(min=1e-12)
    limits = middle_range(scores[:20_000])
    variance = w.double().var(0).sum()
    return Components(*(value.float() for value in (directions, mean, stds, variance, limits)))


__all__ = ["COUNT", "SAMPLES", "STORED", "Components", "fit_components", "load_components"]
