"""`stkit train` and `stkit evaluate` on a tiny set, as a user runs them."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stkit.models.registry import load_generator
from stkit.training.runs import origin
from stkit.weights import find_weights, load_header, verify_weights
from tests.cli.harness import Said

SHAPE = ["w_dim=32", "mapping_layers=3", "channel_base=256", "channel_max=32"]
TINY = ["--resolution", "32", *(part for pair in SHAPE for part in ("-o", pair))]
QUICK = ["--batch", "4", "-o", "precision=fp32", "-o", "compile=no", "--device", "cpu"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth coloured pictures, a grey one, one with alpha, one of another size, and one that is broken."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(30):
        small = random.integers(0, 255, (2, 2, 3), dtype=np.uint8)
        mode = {7: "L", 8: "RGBA"}.get(i, "RGB")
        size = (40, 24) if i == 9 else (32, 32)
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode).save(folder / f"{i:02d}.png")
    (folder / "30.png").write_bytes(b"broken")
    rows = [f"{i:02d}.png,{'test' if i > 25 else 'val' if i > 21 else 'train'}" for i in range(30)]
    folder.with_suffix(".csv").write_text("file,split\n" + "\n".join(rows) + "\n")
    return folder


def test_reconstruction_then_inverter_then_evaluation(photos: Path, tmp_path: Path, stkit: Said) -> None:
    first = tmp_path / "first"
    said = stkit("train", "reconstruction", photos, "--out", first, "--steps", 3, *TINY, *QUICK)
    assert "22 images to train, 4 to validate" in said
    assert f"--weights {first}" in said
    weights = find_weights(str(first))
    assert weights.kinds() == ["generator", "inverter"]
    assert (first / "log.jsonl").is_file()
    assert list((first / "samples").glob("*.png"))

    again = tmp_path / "again"
    stkit("train", "reconstruction", photos, "--out", again, "--init", first, "--steps", 1, *QUICK)
    assert find_weights(str(again)).header.config == weights.header.config

    kept = tmp_path / "kept"
    said = stkit("train", "generator", photos, "--out", kept, "--init", first, "-o", "keep=50", "--steps", 1, *QUICK)
    assert f"--weights {kept}" in said
    sharpened = find_weights(str(kept))
    assert sharpened.fingerprint != weights.fingerprint
    assert sharpened.kinds() == weights.kinds()
    ours, theirs = (load_header(found.path("inverter")) for found in (weights, sharpened))
    assert theirs.fingerprint == ours.fingerprint and theirs.generator == sharpened.fingerprint

    mapped = tmp_path / "mapped"
    said = stkit("train", "mapping", photos, "--out", mapped, "--init", first, "--steps", 3, "-o", "precision=fp32")
    assert f"--weights {mapped}" in said and "val_wasserstein" in (mapped / "log.jsonl").read_text()
    remapped = find_weights(str(mapped))
    assert load_generator(remapped).config.mapping_layers == 6
    assert remapped.kinds() == weights.kinds()
    codes = torch.randn(2, weights.num_ws, weights.w_dim)
    assert torch.equal(*(load_generator(found).synthesize(codes) for found in (weights, remapped)))

    second = tmp_path / "second"
    options = ["--weights", first, "-o", "identity=0", "--init", first, "--steps", 2, *QUICK]
    stkit("train", "inverter", photos, "--out", second, "-o", "input_resolution=64", "-o", "augment=0.5", *options)
    assert find_weights(str(second)).fingerprint == weights.fingerprint
    assert load_header(second / "inverter.safetensors").config["input_resolution"] == 64

    rival = tmp_path / "rival"
    options = ["--architecture", "e4e", "--weights", first, "-o", "identity=0", "--steps", 2, *QUICK]
    stkit("train", "inverter", photos, "--out", rival, *options)
    assert find_weights(str(rival)).inverters() == {"e4e": "inverter"}
    imported = tmp_path / "imported"
    imported.mkdir()
    for path in first.glob("*.safetensors"):
        shutil.copy(path, imported)
    for command, says in (
        (("inverter", photos, "--out", imported, "--weights", first), "inverter.safetensors is there already"),
        (("reconstruction", photos, "--out", first), "holds a run"),
        (("reconstruction", photos, "--out", first, "--resume", *TINY), "is at step 3, past --steps 1"),
        (("generator", photos, "--out", tmp_path / "none", "--init", first, "-o", "w_dim=64"), "w_dim 64 does not fit"),
        (("generator", photos, "--out", tmp_path / "none", "-o", "keep=1"), "give --init"),
        (
            ("generator", photos, "--out", tmp_path / "none", "-o", "discriminator=projected", "-o", "r1_gamma=1"),
            "a projected discriminator has no R1 penalty",
        ),
    ):
        assert says in stkit("train", *command, "--steps", 1, *QUICK, code=2), says
    assert "have no e4e inverter; they have: style-transformer" in stkit(
        *("train", "inverter", photos, "--out", tmp_path / "none", "--init", first, *options), code=1
    )
    said = stkit("evaluate", photos, "--quick", "--weights", rival, "--no-identity")
    assert "reconstruction" in said
    listed = photos.with_suffix(".csv")
    listed.rename(listed.with_suffix(".hidden"))
    said = stkit("evaluate", photos, "--quick", "--weights", rival, "--no-identity")
    listed.with_suffix(".hidden").rename(listed)
    assert "1 images of the split 'every 25th'" in said

    grid = tmp_path / "grid.png"
    said = stkit("evaluate", photos, "--quick", "--weights", second, "--no-identity", "--json", "--grid", grid)
    report = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert report["images"] == 4
    assert report["reconstruction"]["mse"] > 0
    assert report["mean_image"]["lpips"] > 0
    assert grid.is_file()


def test_a_killed_generator_run_goes_on_as_if_nothing_had_happened(photos: Path, tmp_path: Path, stkit: Said) -> None:
    def options(out: Path) -> list[str]:
        return [
            *("train", "generator", str(photos), "--out", str(out), "--steps", "12", "-o", "save_seconds=0"),
            *("-o", "sample_seconds=1000", *TINY, *QUICK),
        ]

    straight, killed = tmp_path / "straight", tmp_path / "killed"
    stkit(*options(straight))
    command = [sys.executable, "-m", "stkit", *options(killed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # bit-equal results need as many threads as here
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 200
    while not (killed / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    at = torch.load(killed / "checkpoint.pt", weights_only=True)["step"]
    assert 1 <= at <= 12
    refused = stkit(*options(killed), code=2)
    assert "already holds a run" in refused and "images to train" not in refused  # before the photos are read
    assert "images to train" in stkit(*options(killed), "--resume")
    assert find_weights(str(killed)).fingerprint == find_weights(str(straight)).fingerprint


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nowhere.zip", "--out", "run"], 1, "no training data"),
        (["empty", "--out", "run"], 1, "no readable images"),
        (["empty", "--out", "run", "--resolution", "100"], 2, "100"),
        (["empty", "--out", "run", "-o", "precision=int1"], 2, "int1"),
    ],
)
def test_bad_training_input(
    arguments: list[str], code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stkit: Said
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    said = stkit("train", "generator", *arguments, code=code)
    assert says in said
    assert "Traceback" not in said


def test_a_domain_of_ones_own_in_one_command(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stkit: Said
) -> None:
    monkeypatch.setenv("STKIT_HOME", str(tmp_path))
    command = ["train", "domain", photos, "--name", "mydogs", "--steps", 2, *TINY, *QUICK]
    command += ["-o", "mapping_steps=20", "--sharpen", 1]
    said = stkit(*command)
    assert "30 photos aligned, 1 left out" in said and "30.png: is not an image" in said
    folder = tmp_path / "weights" / "mydogs"
    weights = find_weights(str(folder))
    assert weights.kinds() == ["ganspace", "generator", "inverter"]
    assert (weights.domain, weights.resolution) == ("plain", 32)
    assert set(verify_weights(weights).values()) == {"ok"}
    edit = ["--weights", "mydogs", "--method", "ganspace", "--attribute", "pc1", "--out", tmp_path / "out"]
    stkit("edit", photos / "09.png", *edit)
    assert (tmp_path / "out" / "09" / "09.ganspace-pc1+1.png").is_file()

    assert "go on with --resume" in stkit(*command, code=2)
    work = tmp_path / "training" / "mydogs"
    (work / "sharpened" / "inverter.safetensors").unlink()  # as if killed before its export
    steps = (work / "reconstruction" / "log.jsonl").read_text()
    stkit(*command, "--resume")
    assert (work / "reconstruction" / "log.jsonl").read_text() == steps
    assert find_weights(str(folder)).fingerprint == weights.fingerprint


def test_a_training_goes_on_with_the_pictures_it_was_begun_with(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stkit: Said
) -> None:
    monkeypatch.setenv("STKIT_HOME", str(tmp_path / "home"))
    command = ["train", "domain", photos, "--name", "mine", *TINY, *QUICK]
    assert "0 images to train on" in stkit(*command[:2], tmp_path, *command[3:], code=1)
    stkit(*command, "--steps", 1, "-o", "mapping_steps=0")
    said = stkit(*command, "--steps", 1, "--resume", "--domain", "cars", code=2)
    assert "begun with domain plain" in said
    assert not (tmp_path / "home" / "training" / "mine" / "mapping").exists()
    stkit(*command, "--steps", 1, "-o", "mapping_steps=5", "--resume")
    said = stkit(*command, "--steps", 2, "-o", "mapping_steps=5", "--resume", code=2)
    assert "mapping, which began from it, first" in said


def test_new_weights_are_for_what_their_start_is_for(tmp_path: Path) -> None:
    cars = find_weights("cars")
    assert origin(None, None, cars) == {
        "domain": "cars",
        "alignment": cars.alignment,
        "licence": cars.header.licence,
    }
    assert origin(None, None, None)["domain"] == "faces"
    assert origin("plain", "MIT", cars)["alignment"].kind == "box"
    assert origin("plain", "MIT", cars)["licence"] == "MIT"


@pytest.mark.parametrize(
    "command",
    [
        ["classifier", "--labels", "x", "--images", "x", "--attributes", "age", "--out", "x"],
        ["reference", "--images", "x", "--attributes", "age", "--out", "x"],
        ["mapping", "x", "--init", "faces", "--out", "x"],
        ["domain", "x", "--name", "mine"],
    ],
)
def test_commands_of_one_process_refuse_torchrun(
    command: list[str], monkeypatch: pytest.MonkeyPatch, stkit: Said
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert f"`train {command[0]}` is one process; start it without" in stkit("train", *command, code=2)


def test_a_domain_loses_no_photo_of_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stkit: Said) -> None:
    """Photos whose paths differ in nothing but what separates them are different photos."""
    monkeypatch.setenv("STKIT_HOME", str(tmp_path / "home"))
    names = ["a/b.png", "a__b.png", "a\\b.png", "../a/b.png", "A__B.png", "x" * 300 + "1.png", "x" * 300 + "2.png"]
    names += [f"{number}.png" for number in range(7)]
    with zipfile.ZipFile(tmp_path / "collide.zip", "w") as archive:
        for number, name in enumerate(names):
            data = io.BytesIO()
            Image.new("RGB", (32, 32), (18 * number, 0, 0)).save(data, "PNG")
            archive.writestr(name, data.getvalue())
    command = ["train", "domain", tmp_path / "collide.zip", "--name", "many", "--steps", 1, "-o", "mapping_steps=0"]
    said = stkit(*command, *TINY, *QUICK)
    assert "14 photos aligned, 0 left out" in said and "13 images to train, 1 to validate" in said
    pictures = list((tmp_path / "home/training/many/photos-plain-32").glob("*.png"))
    reds = set()
    for path in pictures:
        with Image.open(path) as image:
            reds.add(image.getpixel((0, 0))[0])  # type: ignore[index]
    assert reds == {18 * number for number in range(14)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["collide.zip", "home"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["empty", "--name", "mine"], 1, "empty has 0 images to train on; 10 are the least"),
        (["missing", "--name", "mine"], 1, "there is no file missing"),
        (["few", "--name", "mine"], 1, "few has 4 images to train on; 10 are the least"),
        (["empty", "--name", "../mine"], 2, "cannot be a name of weights"),
        (["empty", "--name", "faces"], 2, "choose another"),
        (["few", "--name", "mine", *TINY, *QUICK], 1, "10 are the least"),
        (["few", "--name", "mine", "-o", "mapping_layers=2"], 2, "give 3 or more, or -o mapping_steps=0"),
    ],
)
def test_bad_photos_for_a_domain(
    arguments: list[str], code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stkit: Said
) -> None:
    monkeypatch.setenv("STKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("few").mkdir()
    for i in range(4):
        Image.new("RGB", (32, 32), (50 * i, 0, 0)).save(f"few/{i}.png")
    said = stkit("train", "domain", *arguments, code=code)
    assert says in said
    assert "Traceback" not in said and "photos aligned" not in said
