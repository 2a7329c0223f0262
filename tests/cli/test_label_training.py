"""`stkit train classifier`, `stkit train reference`, and the edits that they make possible, as a user runs them."""

from __future__ import annotations

import colorsys
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from stkit_label.network import load_classifier

from stkit.contracts.scoring import Scorer
from stkit.latents.latents import save_latents
from stkit.options import Options
from stkit.plugins import load_plugins
from stkit.testing import make_tiny_weights, random_latents
from stkit.weights import find_weights, load_header
from tests.cli.harness import Said

QUICK = ["--batch", "8", "--device", "cpu", "--seed", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny weights, 30 coloured pictures, and labels of them: brightness as a number, warm or cold as a word."""
    folder = tmp_path_factory.mktemp("data")
    make_tiny_weights(folder / "tiny")
    (folder / "photos").mkdir()
    rows = []
    for i in range(30):
        hue, value = (i % 2) * 0.6, (i + 10) / 40
        colour = tuple(int(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.8, value))
        Image.new("RGB", (16, 16), colour).save(folder / "photos" / f"{i:02d}.png")
        rows.append(f"{i:02d}.png,{'val' if i > 24 else 'train'},{i + 10},{'cold' if i % 2 else 'warm'}")
    (folder / "labels.csv").write_text("file,split,bright,tone\n" + "\n".join(rows) + "\n")
    return folder


def classifier_options(folder: Path, out: Path, steps: int = 12) -> list[str]:
    return [
        *("train", "classifier", "--labels", str(folder / "labels.csv"), "--images", str(folder / "photos")),
        *("--weights", str(folder / "tiny"), "--attributes", "bright,tone=warm", "--out", str(out)),
        *("--steps", str(steps), *QUICK),
    ]


def test_classifier_then_block_then_edits(stkit: Said, folder: Path, tmp_path: Path) -> None:
    said = stkit(*classifier_options(folder, tmp_path / "first"))
    assert "25 photos to train, 5 to validate" in said
    assert "tone: accuracy" in said and "on 5 held-out photos" in said
    first = find_weights(str(tmp_path / "first"))
    assert first.kinds() == sorted(["classifier", *find_weights(str(folder / "tiny")).kinds()])
    assert load_classifier(first).config.attributes == ("bright", "tone")
    notes = load_header(first.path("classifier")).notes
    assert notes["targets"]["bright"]["kind"] == "number" and notes["positive"] == {"tone": "warm"}

    options = ["--images", folder / "photos", "--labels", folder / "labels.csv", "--weights", first.folder]
    said = stkit(
        "train", "reference", *options, "--attributes", "tone", "--out", tmp_path / "second", "--steps", 3, *QUICK
    )
    assert "tone: " in said and "of the way to the reference" in said
    second = find_weights(str(tmp_path / "second"))
    assert second.kinds() == sorted(["reference", *first.kinds()])
    assert second.path("classifier").read_bytes() == first.path("classifier").read_bytes()

    latents = tmp_path / "photo.latents.safetensors"
    save_latents(random_latents(second, 1), latents)
    said = stkit(
        *("edit", latents, "--method", "label", "--attribute", "bright", "--strength", "1.5"),
        *("--weights", second.folder, "-o", "order=2", "-o", "hold=tone"),
    )
    assert "photo.label-bright" in said
    said = stkit("train", "reference", *options, "--attributes", "x", "--out", tmp_path / "y", *QUICK, code=2)
    assert "no attribute named 'x'" in said


class Brightness(Scorer[Options]):
    name = "brightness"
    description = "mean brightness of each half"

    def score(self, images: torch.Tensor, options: Options) -> dict[str, np.ndarray]:
        left, right = images.double().mean((1, 2)).chunk(2, -1)
        return {"left": left.mean(1).numpy(), "right": right.mean(1).numpy()}


def test_samples_stand_for_photos(stkit: Said, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(load_plugins().scorers, "brightness", Brightness())
    weights = folder / "tiny"
    options = [*("train", "classifier", "--samples", 120, "--attributes", "left,right"), "--weights", weights, *QUICK]
    first = tmp_path / "first"
    said = stkit(*options, "--scorer", "brightness", "-o", "components=8", "--out", first, "--steps", 3)
    assert "left: accuracy" in said and "on 24 held-out photos" in said
    found = find_weights(str(first))
    assert load_classifier(found).config.components == 8
    notes = load_header(found.path("classifier")).notes
    assert (notes["samples"], notes["photos"], notes["scorer"]) == (120, 96, "brightness")
    reference = ["train", "reference", "--attributes", "left", "--weights", first, "--steps", 2, *QUICK]
    stkit(*reference, "--samples", 100, "--images", folder / "photos", "--out", tmp_path / "second")
    notes = load_header(tmp_path / "second" / "reference.safetensors").notes
    assert (notes["samples"], notes["data"], notes["photos"]) == (100, "photos", 96 + 29)

    for more, says in (
        ((), "samples need a --scorer"),
        (("--images", folder / "photos"), "photos need --labels"),
    ):
        assert says in stkit(*options, *more, "--out", tmp_path / "none", code=2)
    assert "nothing to train on" in stkit(*reference, "--out", tmp_path / "none", code=2)
    words = [*options[:5], "left=M", *options[6:], "--scorer", "brightness"]
    assert "name left without =" in stkit(*words, "--out", tmp_path / "none", code=2)


def test_a_killed_classifier_run_goes_on_as_if_nothing_had_happened(stkit: Said, folder: Path, tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    stkit(*classifier_options(folder, straight, 150))
    options = [*classifier_options(folder, killed, 150), "-o", "save_seconds=0"]
    command, environment = [sys.executable, "-m", "stkit", *options], {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 200
    while not (killed / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 1 <= torch.load(killed / "checkpoint.pt", weights_only=True)["step"] <= 150
    assert "already holds a run" in stkit(*options, code=2)
    stkit(*options, "--resume")
    ours, theirs = (load_header(out / "classifier.safetensors").fingerprint for out in (killed, straight))
    assert ours == theirs
    assert "already holds a run" in stkit(*classifier_options(folder, straight), code=2)


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"--attributes": "bright,glasses"}, 2, "no column in labels.csv named 'glasses'"),
        ({"--attributes": "bright,bright"}, 2, "'bright' is given twice"),
        ({"--labels": "nowhere.csv"}, 1, "cannot read labels nowhere.csv"),
    ],
)
def test_bad_input_is_one_line(
    stkit: Said, folder: Path, tmp_path: Path, change: dict[str, str], code: int, says: str
) -> None:
    options = classifier_options(folder, tmp_path / "out")
    for name, value in change.items():
        options[options.index(name) + 1] = value
    said = stkit(*options, code=code)
    assert says in said
    assert "Traceback" not in said


def test_a_folder_of_another_generator_is_left_alone(stkit: Said, folder: Path, tmp_path: Path) -> None:
    other = make_tiny_weights(tmp_path / "other", seed=3)
    said = stkit(*classifier_options(folder, other.folder), code=2)
    assert "holds another generator than weights 'tiny'" in said
    assert "classifier" not in other.kinds()


def test_a_block_without_a_classifier_says_how_to_train_one(stkit: Said, folder: Path, tmp_path: Path) -> None:
    options = ["--images", folder / "photos", "--weights", folder / "tiny", "--attributes", "tone"]
    assert "stkit train classifier" in stkit("train", "reference", *options, "--out", tmp_path / "out", code=1)
