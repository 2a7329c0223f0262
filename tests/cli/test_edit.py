"""`stkit edit` and `stkit faces`: photos in, photos out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import ExifTags, Image

from stkit.cli.seeing import half_blocks
from stkit.editor.editor import Editor
from stkit.latents.latents import load_latents
from stkit.measure.usual import store_usual_errors, usual_errors
from stkit.testing import make_tiny_weights
from stkit.weights import Weights, load_header
from tests.cli.harness import Cli, error_line

ONE = ("--method", "ganspace", "--attribute", "pc1")
STKIT = [sys.executable, "-m", "stkit"]


def pixels(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), float)


def two_faces(portrait: Path) -> Path:
    with Image.open(portrait) as image:
        both = Image.new("RGB", (image.width * 2, image.height), "grey")
        both.paste(image.resize((image.width * 2 // 3, image.height * 2 // 3)), (0, 0))
        both.paste(image, (image.width, 0))
    both.save("two.png")
    return Path("two.png")


def test_the_photo_comes_back_edited(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    result = cli("edit", portrait, "--weights", tiny_weights.folder, *ONE, "--strength", 2)
    assert result.code == 0, result.err
    edited = Path("out/grace/grace.ganspace-pc1+2.jpg")
    assert str(edited) in result.out
    before, after = pixels(portrait), pixels(edited)
    assert after.shape == before.shape
    left, top, right, bottom = (round(x) for x in json.loads(Path("out/grace/grace.json").read_text())["box"])
    change = np.abs(after - before).max(-1)
    assert change[top:bottom, left:right].mean() > 3 * change[-100:].mean() + 0.5
    far = np.concatenate([change[:40], change[-100:]])
    assert far.mean() < 0.6 and np.percentile(far, 99) <= 9, "far from the face only JPEG's rounding"


def test_strength_0_with_the_shipped_weights_by_the_installed_command(tmp_path: Path) -> None:
    source = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    with Image.open(source) as image:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        exif[ExifTags.Base.Artist] = "Navy"
        image.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    command = [*STKIT, "edit", "turned.png", *ONE, "--strength", "0"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    back = tmp_path / "out/turned/turned.ganspace-pc1+0.png"
    assert np.array_equal(pixels(back), pixels(tmp_path / "turned.png"))
    with Image.open(back) as image:
        assert image.getexif()[ExifTags.Base.Orientation] == 6
        assert image.getexif()[ExifTags.Base.Artist] == "Navy"


def test_crop_only(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    result = cli("edit", portrait, "--weights", tiny_weights.folder, *ONE, "--crop-only")
    assert result.code == 0, result.err
    with Image.open("out/grace/grace.ganspace-pc1+1.crop.png") as crop:
        assert crop.size == (16, 16)
    assert not list(Path("out/grace").glob("*.jpg"))


def test_a_chain_equals_its_edits_one_by_one(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    common = ("--weights", tiny_weights.folder)
    result = cli("edit", portrait, *common, "--edit", "pc2=-1", "--edit", "ganspace:pc3=+0.5")
    assert result.code == 0, result.err
    assert "'pc2' is edited with method ganspace" in result.err
    chain = Path("out/grace/grace.ganspace-pc2-1_ganspace-pc3+0.5")
    assert cli("edit", portrait, *common, "--method", "ganspace", "--attribute", "pc2", "--strength", -1).code == 0
    first = "out/grace/grace.ganspace-pc2-1.latents.safetensors"
    assert cli("edit", first, *common, "--edit", "pc3=0.5").code == 0
    one_by_one = Path("out/grace/grace.ganspace-pc2-1.ganspace-pc3+0.5")
    latents = [load_latents(base.with_name(base.name + ".latents.safetensors")) for base in (chain, one_by_one)]
    assert np.allclose(latents[0].codes, latents[1].codes, atol=1e-6)
    assert latents[0].provenance[0].edits == ("ganspace:pc2=-1", "ganspace:pc3=+0.5")
    # From latents the photo is found again, and both edits are put into it.
    assert np.abs(pixels(f"{chain}.jpg") - pixels(f"{one_by_one}.jpg")).max() <= 1


def test_edits_undone_give_the_photo_back(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    common = ("--weights", tiny_weights.folder)
    assert cli("edit", portrait, *common, "--edit", "pc1=1").code == 0
    assert cli("edit", "out/grace/grace.ganspace-pc1+1.latents.safetensors", *common, "--edit", "pc1=-1").code == 0
    assert np.abs(pixels("out/grace/grace.ganspace-pc1+1.ganspace-pc1-1.jpg") - pixels(portrait)).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--edit", "pc999=1"), "did you mean ganspace:pc"),
        (("--edit", "hat=1"), "with these weights: ganspace has pc1, pc2"),
        ((*ONE, "--strength", "nan"), "--strength nan is no finite number"),
        (("--edit", "smile"), "not like age=+1.5"),
        (("--edit", "pc1=nan"), "not like age=+1.5"),
        (("--edit", "gansp:pc1=1"), "did you mean ganspace?"),
        (("--edit", "ganspace:smile=1"), "attribute"),
        (("--edit", "pc1=1", "-o", "relative=true"), "-o goes with a single --method"),
        (("--edit", "pc1=1", "--method", "ganspace"), "either"),
        ((), "give --method and --attribute, or --edit"),
        (("--edit", "pc1=1", "--strength", "3"), "--strength goes with --method"),
        ((*ONE, "--domain", "hats"), "hats"),
        ((*ONE, "--domain", "cars"), "are for faces, not cars; leave out --domain"),
        ((*ONE, "--sweep", "3"), "not like -3:3:7"),
        ((*ONE, "--sweep", "-3:3:1"), "count of 2 to 99"),
        ((*ONE, "--animate"), "--sweep"),
        (("--edit", "pc1=1", "--edit", "pc2=1", "--sweep", "-1:1:3"), "one edit"),
        ((*ONE, "--blend", "mix"), "residual, replace, poisson"),
        ((*ONE, "--face", "left"), "not all, largest"),
        ((*ONE, "--box", "1,2,3"), "120,80,200,240"),
        ((*ONE, "--box", "9000,2,30,30"), "outside"),
        ((*ONE, "--landmarks", "none.json"), "none.json"),
        ((*ONE, "--out", "smile.jpg"), "a picture's name; give a folder's"),
    ],
)
def test_wrong_usage(
    cli: Cli,
    arguments: tuple[str, ...],
    says: str,
    portrait: Path,
    tiny_weights: Weights,
) -> None:
    result = cli("edit", portrait, "--weights", tiny_weights.folder, *arguments)
    assert result.code == 2, result.err
    assert says in error_line(result)
    assert not Path("out").exists()


def test_sweep_and_animation(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    result = cli("edit", portrait, "--weights", tiny_weights.folder, *ONE, "--sweep", "-2:2:5", "--animate", "--show")
    assert result.code == 0, result.err
    assert "cannot show" in result.err or "DISPLAY" in str(sys.platform)
    base = "out/grace/grace.ganspace-pc1.sweep-2to+2x5"
    with Image.open(f"{base}.gif") as gif, Image.open(f"{base}.png") as strip:
        assert gif.n_frames == 8  # type: ignore[attr-defined]  # there and back
        assert strip.width > 5 * gif.width > 5 * 100


def test_edited_latents_go_where_they_are_told(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    assert cli("invert", portrait, "--weights", tiny_weights.folder).code == 0
    latents = Path("out/grace/grace.latents.safetensors")
    result = cli("edit", latents, "--weights", tiny_weights.folder, *ONE, "--out", "[told]")
    assert result.code == 0, result.err
    assert Path("[told]/grace.ganspace-pc1+1.jpg").is_file() and not list(latents.parent.glob("*pc1*"))
    assert "[told]/grace.ganspace-pc1+1.jpg" in result.out
    assert "[told]/grace/grace.faces.jpg" in cli("faces", portrait, "--out", "[told]").out


@pytest.mark.parametrize("flag", [("--face", "2"), ("--box", "1,2,3,4"), ("--quality", "best"), ("--refine", "pti")])
def test_flags_for_photos_beside_latents(cli: Cli, flag: tuple[str, str], tiny_weights: Weights) -> None:
    assert cli("sample", "--weights", tiny_weights.folder, "--seeds", "1", "--out", "s").code == 0
    (latents,) = Path("s").glob("*.safetensors")
    result = cli("edit", latents, "--weights", tiny_weights.folder, *ONE, *flag)
    assert result.code == 2 and "are for photos; these latents are inverted already" in error_line(result)


def test_wrong_edits_are_told_before_the_inversion(
    cli: Cli, portrait: Path, tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Editor, "invert_framed", lambda *_, **__: pytest.fail("inverted"))
    for wrong, says in (
        (("--method", "ganspace", "--attribute", "pc999"), "pc999"),
        (("--edit", "ganspace:pc999=1"), "pc999"),
        ((*ONE, "--layers", "4-70"), "layers 4-70"),
        (("--method", "ganspace"), "needs --attribute"),
    ):
        result = cli("edit", portrait, "--weights", tiny_weights.folder, *wrong)
        assert result.code == 2 and says in error_line(result)


def test_out_that_is_a_file(cli: Cli, portrait: Path) -> None:
    Path("taken").write_text("mine")
    for command in (("edit", portrait, *ONE), ("invert", portrait), ("faces", portrait)):
        result = cli(*command, "--out", "taken")
        assert result.code == 2 and "--out taken is a file; give a folder's name" in error_line(result)


def test_a_place_without_a_face(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    result = cli("edit", portrait, "--weights", tiny_weights.folder, *ONE, "--face", "1,590")
    assert result.code == 1, result.err
    assert "there is no face at 1,590" in error_line(result)


def test_a_face_that_is_not_there(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    result = cli("edit", portrait, "--weights", tiny_weights.folder, *ONE, "--face", "7")
    assert result.code == 1
    assert "there is no face 7 in" in error_line(result)


@pytest.mark.parametrize(("face", "left_changes", "right_changes"), [("2", 1, 0), ("all", 1, 1), ("900,300", 0, 1)])
def test_which_face(
    cli: Cli,
    face: str,
    left_changes: int,
    right_changes: int,
    portrait: Path,
    tiny_weights: Weights,
) -> None:
    photo = two_faces(portrait)
    result = cli("edit", photo, "--weights", tiny_weights.folder, *ONE, "--strength", 2, "--face", face)
    assert result.code == 0, result.err
    (edited,) = (path for path in Path("out/two").glob("*+2.png"))
    change = np.abs(pixels(edited) - pixels(photo)).max(-1)
    middle = change.shape[1] // 2
    assert [int(change[:, :middle].any()), int(change[:, middle:].any())] == [left_changes, right_changes]
    if face == "all":
        (latents,) = Path("out/two").glob("*+2.latents.safetensors")
        assert len(load_latents(latents)) == 2
        assert cli("edit", latents, "--weights", tiny_weights.folder, "--edit", "pc1=-2").code == 0
        (back,) = Path("out/two").glob("*pc1-2.png")
        assert np.abs(pixels(back) - pixels(photo)).max() <= 1
        crops = ("--weights", tiny_weights.folder, *ONE, "--face", face, "--crop-only", "--out", "crops")
        assert cli("edit", photo, *crops).code == 0
        assert len({path.read_bytes() for path in Path("crops/two").glob("*+1*.crop.png")}) == 2


def test_faces_are_numbered(cli: Cli, portrait: Path) -> None:
    photo = two_faces(portrait)
    result = cli("faces", photo)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0].startswith("face 1: box 6") and lines[1].startswith("face 2: box 1"), result.out
    assert all("(HOG, score " in line and line.endswith("): ok") for line in lines[:2])
    assert re.fullmatch(r"searched for \d+\.\d s", lines[2])
    change = np.abs(pixels("out/two/two.faces.jpg") - pixels(photo)).max(-1)
    assert (change > 100).mean() > 0.005
    Path("out/two/two.json").write_text(json.dumps({"sha256": "another photo's"}))
    assert "--overwrite" in error_line(cli("faces", photo))
    assert cli("faces", photo, "--overwrite").code == 0


def test_landmarks_and_box_in_place_of_the_search(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    weights = ("--weights", tiny_weights.folder)
    assert cli("invert", portrait, *weights).code == 0
    found = np.array(load_latents(Path("out/grace/grace.latents.safetensors")).provenance[0].transform)
    points = (found @ [[2.3, 8.8, 2.6, 8.6], [2.2, 2.2, 8.4, 8.4], [1, 1, 1, 1]]).T
    Path("points.json").write_text(json.dumps({"landmarks": (points * [1, 1]).tolist()}))
    left, top, right, bottom = json.loads(Path("out/grace/grace.json").read_text())["box"]
    box = f"{left},{top},{right - left},{bottom - top}"
    for number, arguments in enumerate((("--landmarks", "points.json"), ("--box", box))):
        out = f"other{number}"
        assert cli("invert", portrait, *weights, *arguments, "--out", out).code == 0
        transform = np.array(load_latents(Path(out, "grace/grace.latents.safetensors")).provenance[0].transform)
        scale = np.hypot(transform[0, 0], transform[1, 0]) / np.hypot(found[0, 0], found[1, 0])
        assert 0.7 < scale < 1.4
        assert np.abs(transform @ [8, 8, 1] - found @ [8, 8, 1]).max() < 40


def test_nothing_is_overwritten_unasked(cli: Cli, portrait: Path, tiny_weights: Weights, tmp_path: Path) -> None:
    arguments = ("edit", portrait, "--weights", tiny_weights.folder, *ONE)
    assert cli(*arguments).code == 0
    first = pixels("out/grace/grace.ganspace-pc1+1.jpg")
    assert cli(*arguments).code == 0, "the same again changes nothing and is no error"
    other = cli(*arguments, "--blend", "replace")
    assert other.code == 1
    assert "--overwrite" in error_line(other)
    assert np.array_equal(pixels("out/grace/grace.ganspace-pc1+1.jpg"), first)
    assert cli(*arguments, "--blend", "replace", "--overwrite").code == 0
    assert not np.array_equal(pixels("out/grace/grace.ganspace-pc1+1.jpg"), first)


@pytest.mark.parametrize("fate", ["gone", "changed"])
def test_latents_whose_photo_is_lost(cli: Cli, fate: str, portrait: Path, tiny_weights: Weights) -> None:
    weights = ("--weights", tiny_weights.folder)
    assert cli("invert", portrait, *weights).code == 0
    if fate == "gone":
        portrait.unlink()
    else:
        Image.new("RGB", (512, 600), "green").save(portrait)
    result = cli("edit", "out/grace/grace.latents.safetensors", *weights, *ONE)
    assert result.code == 0, result.err
    assert "warning: no paste-back" in result.err
    assert str(portrait) in result.err
    assert Path("out/grace/grace.ganspace-pc1+1.crop.png").is_file()


def test_unusual_photos_are_warned_of(cli: Cli, portrait: Path, tmp_path: Path) -> None:
    import torch

    weights = make_tiny_weights(tmp_path / "calibrated")
    fingerprint = load_header(weights.path("inverter")).fingerprint
    assert usual_errors(weights) is None
    assert "reconstructed badly" not in cli("invert", portrait, "--weights", weights.folder).err
    store_usual_errors(weights, {"mse": torch.linspace(0.001, 0.002, 101), "lpips": torch.linspace(0.001, 0.002, 101)})
    usual = usual_errors(weights)
    assert usual is not None and usual["mse"]["p99"] == pytest.approx(0.00199) and usual["images"] == 101
    assert load_header(weights.path("inverter")).fingerprint == fingerprint
    for command in (("invert",), ("edit", *ONE)) * 2:  # the second time of what is kept
        result = cli(command[0], portrait, *command[1:], "--weights", weights.folder, "--out", "again")
        assert result.code == 0
        assert "reconstructed badly" in result.err and "stkit faces" in result.err


def test_preview_is_a_picture_in_text() -> None:
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    image.paste((0, 0, 255), (20, 0, 40, 20))
    text = half_blocks(image, 10)
    lines = text.plain.splitlines()
    assert len({len(line) for line in lines}) == 1 and len(lines[0]) == 10
    assert str(text.spans[0].style) == "#ff0000 on #ff0000"
    assert str(text.spans[-1].style) == "#0000ff on #0000ff"


def test_preview_prints(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    result = cli("edit", portrait, "--weights", tiny_weights.folder, *ONE, "--preview")
    assert result.code == 0, result.err
    assert result.out.count("▀") > 500
