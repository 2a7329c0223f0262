"""Headers and tensors of weights, directions and latents that hold something else: one line, whatever it is."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from stkit.checkpoints.recognise import open_checkpoint
from stkit.contracts.editing import EditContext
from stkit.contracts.inversion import InversionContext
from stkit.errors import StkitError
from stkit.latents.latents import load_latents, save_latents
from stkit.models.registry import load_generator
from stkit.plugins import load_plugins
from stkit.testing import random_latents
from stkit.weights import Weights, find_weights
from tests.odd import odd_headers, odd_tensors

CPU = torch.device("cpu")
SAMPLE = 20  # of some thousand changes


def open_all(folder: Path) -> None:
    """Everything that is read of a weights folder by some command. Raises StkitError."""
    weights = find_weights(str(folder))
    load_generator(weights)
    for kind in weights.kinds():
        _, found = open_checkpoint(weights.path(kind))
        found.parts[0].convert()
    problems: list[StkitError] = []
    context = EditContext(weights, CPU)
    crops, inversion = torch.zeros(1, 3, weights.resolution, weights.resolution), InversionContext(weights, CPU)
    for name in weights.inverters():
        inverter = load_plugins().inverter(name)
        attempt(partial(inverter.invert, crops, inverter.Options(), inversion), problems)
    for method in load_plugins().editing_methods.values():
        attempt(partial(method.attributes, context), problems)
    if problems:
        raise problems[0]


def attempt(step: Callable[[], object], problems: list[StkitError]) -> None:
    try:
        step()
    except StkitError as error:
        problems.append(error)


def changes(folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    for path in sorted(folder.glob("*.safetensors")):
        yield from odd_headers(path, "stkit")
        yield from odd_tensors(path)


def test_weights_that_hold_something_else(equipped_weights: Weights, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(equipped_weights.folder, tmp_path / "odd"))
    open_all(folder)
    refused = 0
    for what, change in random.Random(0).sample(list(changes(folder)), SAMPLE):
        before = {path: path.read_bytes() for path in folder.iterdir()}
        change()
        try:
            open_all(folder)
        except StkitError as error:
            assert "\n" not in str(error), what
            refused += 1
        except Exception as error:
            pytest.fail(f"{what}: {type(error).__name__}: {error}")
        for path, data in before.items():
            path.write_bytes(data)
    assert refused > SAMPLE / 2


def test_latents_that_hold_something_else(tiny_weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_latents(random_latents(tiny_weights, 1), path)
    data = path.read_bytes()
    for what, change in [*odd_headers(path, "provenance"), *odd_tensors(path)]:
        path.write_bytes(data)
        change()
        try:
            load_latents(path)
        except StkitError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000, what
        except Exception as error:
            pytest.fail(f"{what}: {type(error).__name__}: {error}")
