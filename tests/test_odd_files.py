"""Headers and tensors of weights, directions and latents that hold something else: one line, whatever it is."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from stkit.checkpoints.arrays import read_arrays
from stkit.checkpoints.reading import read_checkpoint
from stkit.checkpoints.recognise import open_checkpoint
from stkit.contracts.editing import EditContext
from stkit.contracts.inversion import InversionContext
from stkit.datasets.images import ImageFiles
from stkit.datasets.labels import load_labels
from stkit.errors import StkitError
from stkit.headers import load_header
from stkit.latents.directions import usable_directions
from stkit.latents.latents import load_latents, save_latents
from stkit.models.registry import load_generator
from stkit.photo.archives import open_archive
from stkit.photo.reading import load_photo
from stkit.photo.subjects import read_landmarks
from stkit.plugins import load_plugins
from stkit.testing import random_latents
from stkit.weights import Weights, find_weights, verify_weights, weights_names
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


@pytest.mark.parametrize(
    ("name", "start", "read"),
    [
        ("x.pt", b"PK\3\4", read_checkpoint),
        ("x.pkl", b"\x80\4", read_checkpoint),
        ("x.safetensors", b"\xff" * 7 + b"\x0f{", load_header),
        ("x.latents.safetensors", b"\xff" * 7 + b"\x0f{", load_latents),
        ("x.npy", b"\x93NUMPY\1\0", read_arrays),
        ("x.csv", b"file,smile\n", load_labels),
        ("x.json", b"[", load_labels),
        ("points.json", b"[", read_landmarks),
        ("x.jpg", b"\xff\xd8\xff\xe0", load_photo),
        ("x.zip", b"PK\3\4", open_archive),
        ("y.zip", b"PK\3\4", ImageFiles),
    ],
)
def test_pipes_devices_and_terabytes(name: str, start: bytes, read: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "sparse").mkdir()
    sparse, device, pipe = (tmp_path / kind / name for kind in ("sparse", "device", "pipe"))
    sparse.write_bytes(start)
    os.truncate(sparse, 2**43)
    for path, make in ((device, lambda path: path.symlink_to("/dev/zero")), (pipe, os.mkfifo)):
        path.parent.mkdir()
        make(path)
    for path in (sparse, device, pipe):
        with pytest.raises(StkitError) as caught:
            read(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


NEIGHBOURS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
    "link to nothing": lambda path: path.symlink_to("nothing"),
}


@pytest.mark.parametrize("kind", NEIGHBOURS)
def test_what_is_no_file_among_the_weights_is_told_and_stops_nobody(
    kind: str,
    equipped_weights: Weights,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("STKIT_HOME", str(tmp_path))
    folder = Path(shutil.copytree(equipped_weights.folder, tmp_path / "weights" / "mine"))
    (tmp_path / "weights" / "odd").mkdir()
    for path in (tmp_path / "weights" / "odd" / "generator.safetensors", folder / "direction-odd.safetensors",
                 folder / "inverter-odd.safetensors"):  # fmt: skip
        NEIGHBOURS[kind](path)
    assert {"odd", "mine"} <= weights_names().keys()
    with pytest.raises(StkitError, match="cannot read weights from .*odd"):
        find_weights("odd")
    weights = find_weights("mine")
    assert weights.inverters() and usable_directions(weights, None)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and all("cannot read weights from" in line and "-odd.safetensors" in line for line in told)
    report = verify_weights(weights)
    assert {name for name, state in report.items() if state != "ok"} == {
        "direction-odd.safetensors", "inverter-odd.safetensors"
    }  # fmt: skip


def test_a_weights_folder_that_is_a_broken_link_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STKIT_HOME", str(tmp_path))
    (tmp_path / "weights" / "unfinished").mkdir(parents=True)
    before = weights_names()
    (tmp_path / "weights" / "odd").symlink_to("odd")
    assert weights_names().keys() - before.keys() == {"odd"} and "unfinished" not in before
    with pytest.raises(StkitError, match="cannot read weights from .*odd"):
        find_weights("odd")
