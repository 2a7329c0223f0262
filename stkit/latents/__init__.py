"""Latent codes and what is stored with them: latent files, generators tuned for them, directions to move them along."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stkit.latents.latents import (
        COLUMNS,
        Column,
        Latents,
        Provenance,
        average,
        beside_codes,
        encode_latents,
        interpolate,
        join_latents,
        load_latents,
        mix,
        save_latents,
        save_latents_tuning,
    )


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'stkit.latents' has no attribute '{name}'")
    return getattr(importlib.import_module("stkit.latents.latents"), name)


__all__ = [
    "COLUMNS",
    "Column",
    "Latents",
    "Provenance",
    "average",
    "beside_codes",
    "encode_latents",
    "interpolate",
    "join_latents",
    "load_latents",
    "mix",
    "save_latents",
    "save_latents_tuning",
]
