"""stkit: edit real photographs in the latent space of a GAN.

    import stkit
    ed = stkit.load("faces")
    inv = ed.invert("photo.jpg")
    ed.edit(inv, method="ganspace", attribute="pc1", strength=2).save("edited.jpg")

Names are imported when first used, so that `import stkit` is quick and imports no torch.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from stkit.hookspecs import hookimpl
from stkit.moved import OldPaths

if TYPE_CHECKING:
    from stkit.editor.editor import Editor, load
    from stkit.editor.results import Edit, Inversion, find_photo
    from stkit.editor.steps import EditStep
    from stkit.errors import StkitError
    from stkit.jobs.report import Report
    from stkit.jobs.request import EditRequest, InvertRequest
    from stkit.jobs.run import run
    from stkit.latents.latents import Latents, load_latents, save_latents
    from stkit.photo.images import save_image
    from stkit.photo.reading import Photo, load_photo
    from stkit.plugins import load_plugins
    from stkit.weights import Weights, find_weights

__version__ = "0.1.0"

_HOME = {
    "Edit": "editor.results",
    "EditRequest": "jobs.request",
    "EditStep": "editor.steps",
    "Editor": "editor.editor",
    "Inversion": "editor.results",
    "InvertRequest": "jobs.request",
    "Latents": "latents.latents",
    "Photo": "photo.reading",
    "Report": "jobs.report",
    "StkitError": "errors",
    "Weights": "weights",
    "find_photo": "editor.results",
    "find_weights": "weights",
    "load": "editor.editor",
    "load_latents": "latents.latents",
    "load_photo": "photo.reading",
    "load_plugins": "plugins",
    "run": "jobs.run",
    "save_image": "photo.images",
    "save_latents": "latents.latents",
}

sys.meta_path.append(OldPaths())

# Torch reads it at its first allocation. Large feature maps are given back to the system when they are freed, and most
# of the time of an elementwise operation would go to getting them again, page by page of 4 kB.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'stkit' has no attribute '{name}'")
    return getattr(importlib.import_module(f"stkit.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])


__all__ = [
    "Edit",
    "EditRequest",
    "EditStep",
    "Editor",
    "Inversion",
    "InvertRequest",
    "Latents",
    "Photo",
    "Report",
    "StkitError",
    "Weights",
    "__version__",
    "find_photo",
    "find_weights",
    "hookimpl",
    "load",
    "load_latents",
    "load_photo",
    "load_plugins",
    "run",
    "save_image",
    "save_latents",
]
