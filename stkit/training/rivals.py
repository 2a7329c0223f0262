"""Inverters trained alike, to be compared: what `stkit train rivals` does."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any, get_args, get_type_hints

from stkit.contracts.training import SILENT, Voice
from stkit.errors import UnknownNameError, UsageError
from stkit.models.psp_encoders import SMALL_RESTYLE_PASSES
from stkit.options import comma_list
from stkit.training.config import InverterRecipe, InverterRunConfig, RivalsRecipe
from stkit.training.recipes import train_inverter
from stkit.weights import load_header

_KNOWN: tuple[str, ...] = get_args(get_type_hints(InverterRecipe)["architecture"])


def train_rivals(recipe: RivalsRecipe, voice: Voice = SILENT) -> bool:
    """Train all of them; whether weights are in every folder ARCHITECTURE-SEED of `recipe.out`.

    False when it was interrupted. What is done is not done again. Raises UsageError, WeightsError,
    MissingPackageError.
    """
    names = comma_list(recipe.architectures)
    for name in names:
        if name not in _KNOWN:
            raise UnknownNameError("architecture", name, _KNOWN)
    if not names:
        raise UsageError(f"--architectures names none; give some of {', '.join(_KNOWN)}")
    shared = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(InverterRunConfig)}
    for seed, name in itertools.product(range(recipe.seed, recipe.seed + recipe.runs), names):
        # A step of ReStyle is as much work as one of another for each of its passes.
        steps = max(1, recipe.steps // (SMALL_RESTYLE_PASSES if name == "restyle" else 1))
        own = {"architecture": name, "seed": seed, "steps": steps, "out": recipe.out / f"{name}-{seed}"}
        one: dict[str, Any] = {**shared, **own}
        if _done(one["out"], steps):
            voice.say(f"{one['out']} is done")
        elif not train_inverter(InverterRecipe(**one), voice):
            return False
    voice.say("all are done; compare them with `stkit evaluate`")
    return True


def _done(folder: Path, steps: int) -> bool:
    path = folder / "inverter.safetensors"
    return path.exists() and load_header(path).notes.get("steps") == steps


__all__ = ["train_rivals"]
