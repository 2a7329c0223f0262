"""Recipes, from photos to weights files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from stkit.measure.usual import store_usual_errors, usual_errors
from stkit.tensors import load_tensors, save_tensors
from stkit.testing import make_tiny_weights
from stkit.training.config import InverterRecipe
from stkit.training.recipes import train_inverter
from stkit.weights import find_weights, load_header


def test_notes_that_stay_true_are_kept(tmp_path: Path) -> None:
    weights = make_tiny_weights(tmp_path / "tiny", "plain")
    path = weights.path("inverter")
    header, tensors = load_tensors(path)
    save_tensors(path, tensors, dataclasses.replace(header, notes={"edit_quality": "best", "steps": 7}))
    store_usual_errors(find_weights(str(weights.folder)), {"mse": torch.rand(40), "lpips": torch.rand(40)})
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(8):
        Image.new("RGB", (16, 16), (30 * i, 90, 90)).save(photos / f"{i}.png")
    asked: dict[str, Any] = {
        "weights": str(weights.folder),
        "init": str(weights.folder),
        "compile": False,
        "device": "cpu",
    }
    recipe = InverterRecipe(photos, tmp_path / "run", steps=2, batch=2, identity=0.0, precision="fp32", **asked)
    assert train_inverter(recipe)
    assert usual_errors(find_weights(str(weights.folder))) is not None
    assert usual_errors(find_weights(str(recipe.out))) is None
    notes = load_header(recipe.out / "inverter.safetensors").notes
    assert (notes["edit_quality"], notes["steps"], notes["data"]) == ("best", 2, "photos")
