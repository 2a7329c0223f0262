"""Directions from labelled codes: the normal of a linear SVM, other attributes projected out, a unit of strength."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stkit.plugin import (
    Direction,
    LabelledCodes,
    LabelsError,
    LatentSpace,
    LayerRange,
    UsageError,
    Weights,
    calibrate,
    coordinates,
    require_classes,
    two_classes,
)

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2)
"""Values of the SVM's C to choose from, for codes of unit variance; the strongest regularisation first."""

COMPONENTS = (32, 64, 128)
"""Numbers of leading principal components of the codes that the SVM may see, to choose from before all of the space."""

_MIN_REST = 0.1  # what must be left of a normal when others are projected out


@dataclass(frozen=True)
class Share:
    """`hits` of `count` held-out rows on the right side of the boundary; `chance` is the larger class's share.

    `balanced` is the mean of the accuracies of the two classes, which the larger one does not dominate.
    """

    hits: int
    count: int
    chance: float
    balanced: float

    @property
    def value(self) -> float:
        """The accuracy, 0 to 1."""
        return self.hits / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95% confidence interval."""
        return wilson_interval(self.hits, self.count)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:.1f}% ({100 * low:.1f} to {100 * high:.1f}%) of {self.count} held-out rows"


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted direction, and how well it tells held-out rows apart before and after the projection.

    `cosines`: of the SVM's normal with those that were projected out, by name.
    """

    direction: Direction
    positives: int
    negatives: int
    plain: Share
    projected: Share
    cosines: Mapping[str, float]


def fit_direction(
    weights: Weights,
    data: LabelledCodes,
    name: str,
    space: LatentSpace = LatentSpace.W,
    layers: LayerRange | None = None,
    share: float = 0.25,
    others: Mapping[str, np.ndarray] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> Fit:
    """The direction of the first attribute of `data` (Shen et al., CVPR 2020).

    The normal of LinearSVC's boundary between the two classes, orthogonal to the normals of the other attributes of
    `data` and to `others` (name -> unit vector of the same shape): the paper's conditional manipulation. In w the
    codes are averaged over `layers` (None: all). Raises LabelsError, UsageError.
    """
    if data.codes.ndim == 2 and space is LatentSpace.W_PLUS:
        raise UsageError("samples have codes in w; --space w_plus needs labelled photos")
    features = _features(data.codes, space, layers)
    fitted = ~data.val.numpy()
    values = data.values.double().numpy()
    attribute = data.attributes[0]
    require_classes(values[fitted, 0], attribute, "the labels", share)
    classes = two_classes(values[:, 0], fitted, share)
    normal = fit_normal(features, classes, fitted)
    removed = {
        other: _normal_of(features, values[:, i], fitted, other, share)
        for i, other in enumerate(data.attributes)
        if i > 0
    }
    removed.update({other: vector.reshape(-1) for other, vector in (others or {}).items()})
    final = project_out(normal, removed, name)
    shape = (-1,) if space is LatentSpace.W else (weights.num_ws, weights.w_dim)
    vector = torch.from_numpy(final).float().reshape(shape)
    plain, projected = (held_out_accuracy(features, classes, fitted, n) for n in (normal, final))
    positives, negatives = (int((classes[fitted] == side).sum()) for side in (1, 0))
    unit, safe_range = calibrate(coordinates(data.codes[torch.from_numpy(fitted)], vector, layers))
    notes = {
        **(origin or {}),
        "method": "interfacegan",
        "attribute": attribute,
        "positives": positives,
        "negatives": negatives,
        "held out": projected.count,
        "accuracy": round(projected.value, 4),
        "interval": [round(x, 4) for x in projected.interval],
        "orthogonal to": sorted(removed),
    }
    text = f"{attribute}: {projected}" + (f", orthogonal to {', '.join(sorted(removed))}" if removed else "")
    direction = Direction(name, text, vector, space, weights.space, unit, safe_range, layers, notes)
    return Fit(direction, positives, negatives, plain, projected, {o: float(normal @ v) for o, v in removed.items()})


def fit_normal(features: np.ndarray, classes: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """The unit normal [D] of a linear SVM between the classes 0 and 1 of the `fitted` rows; NaN rows are left out.

    It lies in the span of the fewest leading principal components (COMPONENTS, or all of the space), and has the
    smallest C of PENALTIES in it, whose mean accuracy of the two classes on a fifth of these rows is within one
    standard error (Breiman et al. 1984), or two percentage points, of the best. More of either turns the normal
    towards differences that only sharpen the boundary, along which real codes hardly vary and an edit shows nothing.
    """
    rows = fitted & ~np.isnan(classes)
    x, y = features[rows] - features[rows].mean(0), classes[rows]
    x /= max(float(np.sqrt(np.square(x).mean())), 1e-12)  # one scale for all: the geometry of the space stays
    coordinates, axes, penalty = _choose(y, _spaces(x))
    normal = _svm(coordinates, y, penalty).coef_[0]
    if axes is not None:
        normal = normal @ axes
        normal[~x.any(0)] = 0.0  # layers that are left out; principal axes have rounding errors there
    return normal / np.linalg.norm(normal)


def _spaces(x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """What `fit_normal` chooses from for centred `x` [N, D], smallest first: coordinates [N, K] along axes [K, D].

    The last is `x` itself, without axes: an identity of w_plus is of hundreds of megabytes.
    """
    from sklearn.decomposition import PCA

    counts = [n for n in COMPONENTS if n < min(x.shape)]
    axes = PCA(max(counts), svd_solver="randomized", random_state=0).fit(x).components_ if counts else None
    return [*((x @ axes[:n].T, axes[:n]) for n in counts if axes is not None), (x, None)]


def _choose(
    y: np.ndarray, spaces: Sequence[tuple[np.ndarray, np.ndarray | None]]
) -> tuple[np.ndarray, np.ndarray | None, float]:
    """The one of `spaces` and the C that `fit_normal` describes."""
    test = np.zeros(len(y), dtype=bool)
    for side in (0, 1):  # a fifth of each class, evenly over the rows
        test[np.flatnonzero(y == side)[::5]] = True
    choices, scores = [], []
    for z, axes in spaces:
        for penalty in PENALTIES:
            right = _svm(z[~test], y[~test], penalty).predict(z) == y
            choices.append((z, axes, penalty))
            scores.append([right[test & (y == side)].mean() for side in (0, 1)])
    best = max(scores, key=np.mean)
    counts = [(test & (y == side)).sum() for side in (0, 1)]
    error = math.sqrt(sum(p * (1 - p) / n for p, n in zip(best, counts, strict=True))) / 2
    enough = np.mean(best) - max(0.02, error)
    return next(choice for choice, score in zip(choices, scores, strict=True) if np.mean(score) >= enough)


def _svm(x: np.ndarray, classes: np.ndarray, c: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a normal that still moves a little is good enough
        return LinearSVC(C=c, class_weight="balanced", dual=False).fit(x, classes)


def project_out(normal: np.ndarray, others: Mapping[str, np.ndarray], name: str = "direction") -> np.ndarray:
    """`normal` [D] without its part in the span of `others`, as a unit vector.

    Raises UsageError when next to nothing is left.
    """
    if not others:
        return normal
    basis, _ = np.linalg.qr(np.stack(list(others.values()), axis=1))
    rest = normal - basis @ (basis.T @ normal)
    if np.linalg.norm(rest) < _MIN_REST:
        raise UsageError(f"'{name}' is almost the same direction as {' and '.join(others)}; leave them out")
    return rest / np.linalg.norm(rest)


def held_out_accuracy(features: np.ndarray, classes: np.ndarray, fitted: np.ndarray, normal: np.ndarray) -> Share:
    """How many rows that were not fitted lie on their side of the middle between the fitted classes' means."""
    scores = features @ normal
    limit = sum(scores[fitted & (classes == side)].mean() for side in (0, 1)) / 2
    rows = ~fitted & ~np.isnan(classes)
    if not rows.any():
        raise LabelsError("no held-out row is of one of the two classes; label more photos of the split val")
    truth = classes[rows]
    right = (scores[rows] > limit) == truth
    balanced = float(np.mean([right[truth == side].mean() for side in np.unique(truth)]))
    return Share(int(right.sum()), len(truth), float(max(truth.mean(), 1 - truth.mean())), balanced)


def wilson_interval(hits: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95% score interval of a share (Wilson 1927)."""
    p, square = hits / count, z * z
    centre = (p + square / (2 * count)) / (1 + square / count)
    half = z * math.sqrt(p * (1 - p) / count + square / (4 * count * count)) / (1 + square / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def _features(codes: torch.Tensor, space: LatentSpace, layers: LayerRange | None) -> np.ndarray:
    """float64 [N, D]: w, or w_plus flattened with what lies outside `layers` at 0."""
    chosen = slice(layers.first, layers.last + 1) if layers else slice(None)
    if space is LatentSpace.W:
        return codes[:, chosen].mean(1).double().numpy()
    masked = torch.zeros_like(codes, dtype=torch.float64)
    masked[:, chosen] = codes[:, chosen].double()
    return masked.flatten(1).numpy()


def _normal_of(features: np.ndarray, values: np.ndarray, fitted: np.ndarray, name: str, share: float) -> np.ndarray:
    require_classes(values[fitted], name, "the rows to project it out of", share)
    return fit_normal(features, two_classes(values, fitted, share), fitted)


__all__ = [
    "Fit",
    "Share",
    "fit_direction",
    "fit_normal",
    "held_out_accuracy",
    "project_out",
    "wilson_interval",
]
