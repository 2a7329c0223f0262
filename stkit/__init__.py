"""stkit: edit real photographs in the latent space of a GAN.

    import stkit
    editor = stkit.load("faces")
    inversion = editor.invert("photo.jpg")
    editor.edit(inversion, method="ganspace", attribute="pc1", strength=2).image.save("edited.png")

Names are imported when first used, so that `import stkit` is quick and imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from stkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from stkit.editor import Edit, Editor, Inversion, load
    from stkit.errors import StkitError
    from stkit.images import Photo, load_photo, save_image
    from stkit.latents import Latents, load_latents, save_latents
    from stkit.plugins import load_plugins
    from stkit.weights import Weights, find_weights

__version__ = "0.1.0"

_HOME = {
    "Edit": "editor",
    "Editor": "editor",
    "Inversion": "editor",
    "Latents": "latents",
    "Photo": "images",
    "StkitError": "errors",
    "Weights": "weights",
    "find_weights": "weights",
    "load": "editor",
    "load_latents": "latents",
    "load_photo": "images",
    "load_plugins": "plugins",
    "save_image": "images",
    "save_latents": "latents",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'stkit' has no attribute '{name}'")
    return getattr(importlib.import_module(f"stkit.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])


__all__ = [
    "Edit",
    "Editor",
    "Inversion",
    "Latents",
    "Photo",
    "StkitError",
    "Weights",
    "__version__",
    "find_weights",
    "hookimpl",
    "load",
    "load_latents",
    "load_photo",
    "load_plugins",
    "save_image",
    "save_latents",
]
