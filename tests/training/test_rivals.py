"""`stkit train rivals`: every architecture by the same budget, and again where it was stopped."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from stkit.contracts.training import Voice
from stkit.errors import UnknownNameError, UsageError
from stkit.latents.directions import usable_directions
from stkit.photo.images import to_image
from stkit.testing import make_tiny_weights
from stkit.training.config import RivalsRecipe
from stkit.training.log import seconds_logged
from stkit.training.rivals import train_rivals
from stkit.weights import Weights, find_weights, load_header


@pytest.fixture
def recipe(tmp_path: Path) -> RivalsRecipe:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, image in enumerate(torch.rand(30, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1):
        to_image(image).save(folder / f"{i:02}.png")
    weights = make_tiny_weights(tmp_path / "tiny")
    run = RivalsRecipe(folder, tmp_path / "rivals", steps=2, batch=4, weights=str(weights.folder), device="cpu")
    return dataclasses.replace(run, compile=False, identity=0, lpips=0, precision="fp32", resume=True)


def test_all_are_trained_alike_and_once(recipe: RivalsRecipe) -> None:
    said: list[str] = []
    assert train_rivals(dataclasses.replace(recipe, runs=2, architectures="psp, style-transformer"), Voice(said.append))
    folders = sorted(path.name for path in recipe.out.iterdir())
    assert folders == ["psp-0", "psp-1", "style-transformer-0", "style-transformer-1"]
    headers = [load_header(recipe.out / name / "inverter.safetensors") for name in folders]
    assert [header.architecture for header in headers] == 2 * ["psp"] + 2 * ["style-transformer"]
    budgets = [{key: header.notes[key] for key in ("data", "images", "steps", "batch")} for header in headers]
    assert budgets == 4 * [{"data": "photos", "images": 29, "steps": 2, "batch": 4}]
    assert headers[0].fingerprint != headers[1].fingerprint  # another seed
    assert find_weights(str(recipe.out / "psp-0")).inverters() == {"psp": "inverter"}

    said.clear()
    assert train_rivals(dataclasses.replace(recipe, architectures="psp,restyle"), Voice(said.append))
    assert said[0] == f"{recipe.out / 'psp-0'} is done"
    assert find_weights(str(recipe.out / "restyle-0")).inverters() == {"restyle": "inverter"}


def test_what_belongs_to_the_generator_comes_along(recipe: RivalsRecipe, equipped_weights: Weights) -> None:
    folder = shutil.copytree(equipped_weights.folder, recipe.out.parent / "equipped")
    given = find_weights(str(folder))
    assert train_rivals(dataclasses.replace(recipe, weights=str(folder), architectures="psp"))
    made = find_weights(str(recipe.out / "psp-0"))
    assert set(made.kinds()) == {
        kind for kind in given.kinds() if not kind.startswith("inverter-")
    } and made.inverters() == {"psp": "inverter"}
    known = usable_directions(given, None)
    assert known and usable_directions(made, None).keys() == known.keys()


def test_restyle_pays_for_its_passes(recipe: RivalsRecipe) -> None:
    assert train_rivals(dataclasses.replace(recipe, architectures="psp,restyle", steps=7))
    steps = [load_header(recipe.out / name / "inverter.safetensors").notes["steps"] for name in ("psp-0", "restyle-0")]
    assert steps == [7, 2]


def test_a_stopped_training_stops_all(recipe: RivalsRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stkit.training.rivals.train_inverter", lambda recipe, voice: False)
    assert not train_rivals(recipe) and not recipe.out.exists()


def test_names_that_are_none(recipe: RivalsRecipe) -> None:
    with pytest.raises(UnknownNameError, match="did you mean restyle"):
        train_rivals(dataclasses.replace(recipe, architectures="psp,restile"))
    with pytest.raises(UsageError, match="--architectures names none"):
        train_rivals(dataclasses.replace(recipe, architectures=","))


def test_seconds_are_summed_over_all_starts(tmp_path: Path) -> None:
    clocks = ({"seconds": 10.0}, {"seconds": 25.5}, {"val_mse": 0.1}, {"seconds": 4.0}, {"seconds": 9.0})
    lines = [json.dumps({"step": step, **values}) for step, values in enumerate(clocks)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
    assert seconds_logged(tmp_path) == 25.5 + 9.0
