"""`train_domain` as Python calls it; tests/cli/test_training.py runs the same stages as a user does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stkit.contracts.training import Voice
from stkit.errors import UsageError
from stkit.training.config import DomainRecipe, MappingRecipe, ReconstructionRecipe
from stkit.training.pipeline import train_domain
from stkit.training.runs import shape_of
from stkit.weights import find_weights, user_folder


@pytest.fixture
def recipe(tmp_path: Path) -> DomainRecipe:
    (tmp_path / "photos").mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        small = Image.fromarray(random.integers(0, 255, (2, 2, 3), dtype=np.uint8))
        small.resize((32, 32), Image.Resampling.BICUBIC).save(tmp_path / "photos" / f"{number}.png")
    shape = {"resolution": 32, "w_dim": 32, "mapping_layers": 3, "channel_base": 256, "channel_max": 32}
    run = DomainRecipe(tmp_path / "photos", "mine", steps=1, mapping_steps=0, batch=4, precision="fp32", compile=False)
    return dataclasses.replace(run, device="cpu", **shape)  # type: ignore[arg-type]


def test_a_domain_from_python(recipe: DomainRecipe) -> None:
    said: list[str] = []
    weights = train_domain(recipe, Voice(said.append))
    assert weights is not None and weights.folder == user_folder() / "mine"
    assert weights.kinds() == ["ganspace", "generator", "inverter"] and weights.domain == "plain"
    assert said[0] == "12 photos aligned, 0 left out" and said[1].startswith("11 images to train, 1 to validate")
    with pytest.raises(UsageError, match="go on with --resume"):
        train_domain(recipe)
    again = train_domain(dataclasses.replace(recipe, resume=True))
    assert again is not None and again.fingerprint == weights.fingerprint == find_weights("mine").fingerprint
    with pytest.raises(UsageError, match="no training is called 'faces'|come with stkit"):
        train_domain(dataclasses.replace(recipe, name="faces", resume=True))


def test_a_mapping_needs_weights_to_start_from(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="init"):
        MappingRecipe(tmp_path, tmp_path)  # type: ignore[call-arg]


def test_defaults_ask_for_no_shape_and_others_must_be_that_of_the_start(tmp_path: Path) -> None:
    first = shape_of(ReconstructionRecipe(tmp_path, tmp_path, resolution=64, w_dim=32))
    assert (first.img_resolution, first.w_dim, first.z_dim, first.mapping_layers) == (64, 32, 32, 4)
    recipe = ReconstructionRecipe(tmp_path, tmp_path, init="x")
    assert shape_of(recipe, first) is first
    assert shape_of(dataclasses.replace(recipe, w_dim=32), first) is first
    with pytest.raises(UsageError, match="w_dim 64 does not fit --init x, which has 32; leave w_dim out"):
        shape_of(dataclasses.replace(recipe, w_dim=64), first)
