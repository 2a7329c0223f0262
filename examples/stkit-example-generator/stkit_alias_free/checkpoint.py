"""Checkpoints `{"alias_free": {"size": 32, "width": 16}, "G": state}` of a project that calls some things otherwise."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from stkit.plugin import Checkpoint, Entry, Part, Recognised, WeightsError, state_shapes, take_tensors
from stkit_alias_free.config import AliasFreeConfig
from stkit_alias_free.generator import AliasFree

RENAMED = {"mapping.layers": "style", "synthesis.layers": "blocks", "synthesis.rgb": "to_rgb", "w_avg": "mean_w"}


def recognise(checkpoint: Checkpoint) -> Recognised | None:
    """Told by its keys alone: nothing in the file has been run, and its tensors are read in `convert`."""
    content = checkpoint.content
    if not isinstance(content, dict) or not isinstance(content.get("alias_free"), dict):
        return None
    settings, state = content["alias_free"], content.get("G")
    if not isinstance(state, dict):
        raise WeightsError("it has no network G")
    w_dim, z_dim = (int(size) for size in state["style.0.weight"].shape)
    depth = sum(name.startswith("style.") and name.endswith(".weight") for name in state)
    config = AliasFreeConfig(settings["size"], z_dim, w_dim, depth, settings["width"])

    def convert() -> dict[str, Tensor]:
        shapes = state_shapes(lambda: AliasFree(config))
        layout = {name: Entry(_theirs(name), shape) for name, shape in shapes.items()}
        return take_tensors(layout, shapes, state, "alias-free generator")

    part = Part("generator", AliasFree.architecture, dataclasses.asdict(config), convert)
    facts: dict[str, str] = {"resolution": f"{config.img_resolution} px"}
    return Recognised("tiny-alias-free", "generator of the example", (part,), facts)


def _theirs(name: str) -> str:
    for ours, theirs in RENAMED.items():
        name = name.replace(ours, theirs)
    return name
