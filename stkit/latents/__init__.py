"""Latent codes and what is stored with them: latent files, generators tuned for them, directions to move them along."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stkit.latents.latents import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """What `stkit.latents.latents` lists, imported with the first use of it."""
    if not name.startswith("__"):
        module = importlib.import_module("stkit.latents.latents")
        if name in module.__all__:
            return getattr(module, name)
    raise AttributeError(f"module 'stkit.latents' has no attribute '{name}'")
