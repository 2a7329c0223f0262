"""Principal components of an early layer's activations, carried over to w by regression."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stkit.directions import sample_w
from stkit.errors import OutputError, WeightsError
from stkit.weights import Weights, cache_folder, load_tensors, save_tensors

logger = logging.getLogger("stkit")

SAMPLES = 5_000
COUNT = 20
KIND = "ganspace-activations"


@dataclass(frozen=True, eq=False)
class ActivationComponents:
    """`directions` [K, w_dim] unit rows, `units` [K] the step in w for one standard deviation of the component,
    `shares` [K] of the activations' variance, `limits` [K, 2] the middle 99% of samples in standard deviations."""

    directions: Tensor
    units: Tensor
    shares: Tensor
    limits: Tensor


def load_activations(weights: Weights) -> ActivationComponents:
    """The components of the weights' generator: shipped with it, from the cache, or fitted now and cached."""
    return weights.keep(KIND, lambda: _find(weights))


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
    conv = weights.generator().synthesis.convs[0]
    const = weights.generator().synthesis.const
    rows = []
    for part in w.split(250):
        style = conv.get_submodule("affine")(part)
        rows.append(conv(const.expand(len(part), -1, -1, -1), style, "none").flatten(1))
    activations = torch.cat(rows).numpy()
    count = min(count, weights.w_dim, activations.shape[1])
    pca = PCA(count, svd_solver="randomized", random_state=0).fit(activations)
    x = torch.from_numpy(pca.transform(activations)).double()
    centred = w.double() - w.double().mean(0)
    basis = torch.linalg.lstsq(x, centred).solution  # [K, w_dim]
    signs = basis.gather(1, basis.abs().argmax(1, keepdim=True)).sign()
    basis, x = basis * signs, x * signs.T
    stds, lengths = x.std(0), basis.norm(dim=1).clamp(min=1e-12)
    quantiles = torch.tensor([0.005, 0.995], dtype=torch.float64)
    limits = torch.quantile(x / stds.clamp(min=1e-12), quantiles, dim=0).T
    shares = torch.from_numpy(pca.explained_variance_ratio_)
    found = (basis / lengths[:, None], lengths * stds, shares, limits)
    return ActivationComponents(*(value.float().clone() for value in found))


def _find(weights: Weights) -> ActivationComponents:
    cached = cache_folder() / "ganspace" / f"{weights.fingerprint}-activations.safetensors"
    for path in (weights.path(KIND), cached):
        if path.exists():
            return _read(path, weights)
    logger.info("fitting GANSpace's activation components of %s (once)", weights.name)
    components = fit_activations(weights)
    try:
        _save(cached, components, weights)
    except OutputError as error:
        logger.warning("the components are not kept: %s", error)
    return components


def _save(path: Path, components: ActivationComponents, weights: Weights) -> None:
    config = {"samples": SAMPLES, "space": "activations of the first convolution"}
    header = weights.part_header(KIND, KIND, config)
    save_tensors(path, vars(components), header)


def _read(path: Path, weights: Weights) -> ActivationComponents:
    header, tensors = load_tensors(path)
    weights.require_generator(header, path)
    try:
        return ActivationComponents(**tensors)
    except TypeError:
        raise WeightsError(f"{path} does not hold activation components; remove it to fit them again") from None


__all__ = ["ActivationComponents", "fit_activations", "load_activations"]
