"""Where the pretrained dlib models lie: inside the package face-recognition-models, which is never imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from stkit.plugin import MissingPackageError

_INSTALL = "pip install dlib-bin face-recognition-models"


def model_file(name: str) -> Path:
    """The path of the model file `name`, such as "shape_predictor_68_face_landmarks.dat". Raises MissingPackageError.

    The package is found, not imported: its `__init__` needs pkg_resources, which current setuptools no longer has.
    """
    path = packaged_file("face_recognition_models", name)
    if path is None:
        raise MissingPackageError(f"faces need {name} of the package face-recognition-models: {_INSTALL}")
    return path


def packaged_file(package: str, name: str) -> Path | None:
    """The file `name` among the models that an installed package carries, which is not imported."""
    spec = importlib.util.find_spec(package)
    paths = (Path(folder, "models", name) for folder in (spec and spec.submodule_search_locations) or ())
    return next((path for path in paths if path.is_file()), None)


def import_dlib() -> ModuleType:
    """The module dlib. Raises MissingPackageError."""
    try:
        import dlib
    except ImportError as error:
        raise MissingPackageError(f"faces need the package dlib-bin: {_INSTALL}") from error
    return dlib


__all__ = ["import_dlib", "model_file", "packaged_file"]
