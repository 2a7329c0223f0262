"""The command line, in process: `main()` with arguments, exit codes and what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stkit.errors import PhotoError
from stkit.latents.latents import load_latents
from stkit.testing import make_tiny_weights
from stkit.weights import Weights, user_folder
from tests.cli.harness import Cli, error_line


def test_invert_writes_everything(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    result = cli("invert", portrait, "--weights", tiny_weights.folder)
    assert result.code == 0, result.err
    folder = Path("out/grace")
    made = {path.name for path in folder.iterdir()}
    ends = (".crop.png", ".reconstruction.png", ".side-by-side.png", ".latents.safetensors", ".json")
    assert made == {"grace" + end for end in ends}
    assert all(name in result.out for name in made)
    report = json.loads((folder / "grace.json").read_text())
    assert report["generator"] == tiny_weights.fingerprint
    latents = load_latents(folder / "grace.latents.safetensors")
    assert latents.codes.shape == (1, tiny_weights.num_ws, tiny_weights.w_dim)
    assert latents.provenance[0].photo_sha256 == report["sha256"]


def test_refining_is_reported_and_edits_use_the_tuned_generator(
    cli: Cli, portrait: Path, tiny_weights: Weights, tmp_path: Path
) -> None:
    flags = ["--refine", "optimize:6", "--refine", "pti:2"]
    result = cli("invert", portrait, "--weights", tiny_weights.folder, *flags)
    assert result.code == 0, result.err
    assert "note: optimize:6: MSE " in result.err and "note: pti:2: MSE " in result.err
    folder = tmp_path / "out" / "grace"
    report = json.loads((folder / "grace.json").read_text())
    assert report["inverter"] == "style-transformer+optimize:6+pti:2"
    first, second = report["refinements"]
    assert first["errors_after"]["mse"] < first["errors_before"]["mse"]
    assert (second["steps"], second["errors_after"]["mse"]) == (2, report["metrics"]["mse"])
    latents = folder / "grace.latents.safetensors"
    tuning = load_latents(latents).tuning
    assert tuning is not None and (folder / tuning.filename).is_file()

    edit = ["edit", latents, "--weights", tiny_weights.folder, "--method", "ganspace", "--attribute", "pc1"]
    assert cli(*edit).code == 0
    (folder / tuning.filename).unlink()
    assert "copy it beside the latents" in error_line(cli(*edit))


def test_quality_and_refine_that_are_unknown(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    for flags, says in (
        (["--quality", "top"], "quality 'top' is not one of fast, balanced, best"),
        (["--refine", "style-transformer:5"], "cannot refine codes; those that can: optimize, pti"),
    ):
        result = cli("invert", portrait, "--weights", tiny_weights.folder, *flags)
        assert result.code == 2 and says in error_line(result)


@pytest.mark.parametrize("inverter", ["psp", "e4e", "restyle"])
def test_rival_inverters(cli: Cli, inverter: str, portrait: Path, tiny_weights: Weights, tmp_path: Path) -> None:
    result = cli("invert", portrait, "--weights", tiny_weights.folder, "--inverter", inverter)
    assert result.code == 0, result.err
    latents = load_latents(tmp_path / "out" / "grace" / "grace.latents.safetensors")
    assert latents.provenance[0].inverter == inverter


def test_edit_of_latents_needs_no_photo_and_is_reversible(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    common = ("--weights", tiny_weights.folder, "--method", "ganspace", "--attribute", "pc1")
    assert cli("edit", portrait, *common, "--strength", 2).code == 0
    portrait.unlink()
    edited = Path("out/grace/grace.ganspace-pc1+2.latents.safetensors")
    result = cli("edit", edited, *common, "--strength", -2)
    assert result.code == 0, result.err
    back = load_latents(edited.with_name("grace.ganspace-pc1+2.ganspace-pc1-2.latents.safetensors"))
    start = load_latents(Path("out/grace/grace.latents.safetensors"))
    assert np.allclose(back.codes, start.codes, atol=1e-5)
    assert not np.allclose(load_latents(edited).codes, start.codes, atol=1e-2)
    assert back.provenance[0].edits == ("ganspace:pc1=+2", "ganspace:pc1=-2")


def test_layers_keep_the_others(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    arguments = ("--weights", tiny_weights.folder, "--method", "ganspace", "--attribute", "pc2", "--layers", "1-2")
    assert cli("edit", portrait, *arguments).code == 0
    start = load_latents(Path("out/grace/grace.latents.safetensors")).codes
    edited = load_latents(Path("out/grace/grace.ganspace-pc2+1-layers1-2.latents.safetensors")).codes
    moved = (edited - start).abs().amax((0, 2)) > 1e-3
    assert moved.tolist() == [False, True, True, False, False, False]


def test_sample_writes_a_grid(cli: Cli, tiny_weights: Weights) -> None:
    result = cli("sample", "--weights", tiny_weights.folder, "--seeds", "0-3,9", "--trunc", "0.5")
    assert result.code == 0, result.err
    latents = load_latents(Path("out/sample-tiny-0-3_9-trunc0.5.latents.safetensors"))
    again = cli("sample", "--weights", tiny_weights.folder, "--seeds", "9", "--trunc", "0.5")
    assert again.code == 0
    alone = load_latents(Path("out/sample-tiny-9-trunc0.5.latents.safetensors"))
    assert np.allclose(latents.codes[4], alone.codes[0], atol=1e-6)


@pytest.mark.parametrize("noun", ["plugins", "methods", "inverters", "domains", "metrics", "weights"])
def test_tables(cli: Cli, noun: str) -> None:
    result = cli(noun)
    assert result.code == 0, result.err
    known = {
        "plugins": "ganspace",
        "methods": "ganspace",
        "inverters": "style-transformer",
        "domains": "faces",
        "metrics": "lpips",
        "weights": "faces",
    }[noun]
    assert known in result.out
    shown = cli(noun, "show", known)
    assert shown.code == 0, shown.err
    assert known in shown.out
    wrong = cli(noun, "show", known[:-1])
    assert wrong.code == 2
    assert f"did you mean {known}" in error_line(wrong)


def test_two_faces_takes_the_largest_and_says_so(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    with Image.open(portrait) as image:
        both = Image.new("RGB", (image.width * 2, image.height), "grey")
        both.paste(image.resize((image.width * 2 // 3, image.height * 2 // 3)), (0, 0))
        both.paste(image, (image.width, 0))
    both.save("two.png")
    result = cli("invert", "two.png", "--weights", tiny_weights.folder)
    assert result.code == 0
    assert "note: 2 faces found in two.png; took the largest" in result.err
    report = json.loads(Path("out/two/two.json").read_text())
    assert report["subjects_found"] == 2
    assert report["box"][0] > both.width / 2


@pytest.mark.parametrize("mode", ["CMYK", "I;16", "LA", "P", "1", "L", "RGBA"])
def test_odd_but_valid_photos_work(cli: Cli, mode: str, portrait: Path, tiny_weights: Weights) -> None:
    with Image.open(portrait) as image:
        if mode == "I;16":
            odd = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        else:
            odd = image.convert("L").convert("LA") if mode == "LA" else image.convert(mode)
    path = Path("odd.tif" if mode == "CMYK" else "odd.png")
    odd.save(path)
    result = cli("invert", path, "--weights", tiny_weights.folder)
    assert result.code == 0, result.err
    with Image.open("out/odd/odd.crop.png") as crop:
        assert np.asarray(crop).std() > 20


def test_exif_rotation_is_applied(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    with Image.open(portrait) as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.rotate(90, expand=True).save("turned.png", exif=exif)
    assert cli("invert", portrait, "--weights", tiny_weights.folder).code == 0
    result = cli("invert", "turned.png", "--weights", tiny_weights.folder)
    assert result.code == 0, result.err
    with Image.open("out/turned/turned.crop.png") as turned, Image.open("out/grace/grace.crop.png") as upright:
        difference = np.asarray(turned).astype(float) - np.asarray(upright)
    assert np.abs(difference).mean() < 3


def _no_face(path: Path) -> None:
    Image.new("RGB", (200, 200), "green").save(path)


BAD_PHOTOS: dict[str, tuple[Callable[[Path], object], str]] = {
    "text.jpg": (lambda path: path.write_text("hello"), "not"),
    "empty.jpg": (lambda path: path.touch(), "empty"),
    "folder.jpg": (lambda path: path.mkdir(), "folder"),
    "green.png": (_no_face, "no face found"),
}


@pytest.mark.parametrize("name", BAD_PHOTOS)
@pytest.mark.parametrize("command", [("invert",), ("edit", "--method", "ganspace", "--attribute", "pc1")])
def test_bad_photos(cli: Cli, name: str, command: tuple[str, ...], tiny_weights: Weights) -> None:
    make, says = BAD_PHOTOS[name]
    make(Path(name))
    result = cli(*command, name, "--weights", tiny_weights.folder)
    assert result.code == 1
    assert says in error_line(result)
    assert name in error_line(result)
    assert not Path("out").exists()


def test_truncated_photo(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    Path("cut.jpg").write_bytes(portrait.read_bytes()[:20_000])
    result = cli("invert", "cut.jpg", "--weights", tiny_weights.folder)
    assert result.code == 1
    assert "cut.jpg" in error_line(result)
    assert not Path("out").exists()


WRONG_USAGE = {
    "method": (("--method", "ganspce", "--attribute", "pc1"), "did you mean ganspace?"),
    "attribute": (("--method", "ganspace", "--attribute", "smile"), "there is: pc1"),
    "no attribute": (("--method", "ganspace"), "needs --attribute"),
    "option": (("--method", "ganspace", "--attribute", "pc1", "-o", "foo=1"), "unknown option 'foo'"),
    "option twice": (
        ("--method", "ganspace", "--attribute", "pc1", "-o", "relative=1", "-o", "relative=0"),
        "given twice",
    ),
    "layers": (("--method", "ganspace", "--attribute", "pc1", "--layers", "4-99"), "layers 0-5"),
    "inverter": (("--method", "ganspace", "--attribute", "pc1", "--inverter", "style"), "style-transformer"),
    "device": (("--method", "ganspace", "--attribute", "pc1", "--device", "abacus"), "abacus"),
}


@pytest.mark.parametrize("what", WRONG_USAGE)
def test_wrong_usage(cli: Cli, what: str, portrait: Path, tiny_weights: Weights) -> None:
    arguments, says = WRONG_USAGE[what]
    result = cli("edit", portrait, "--weights", tiny_weights.folder, *arguments)
    assert result.code == 2, result.err
    assert says in error_line(result)


@pytest.mark.parametrize(("flag", "name", "near"), [("--weights", "face", "faces"), ("--domain", "faces2", "faces")])
def test_unknown_weights_and_domains(cli: Cli, flag: str, name: str, near: str, portrait: Path) -> None:
    result = cli("invert", portrait, flag, name)
    assert result.code == 2
    assert f"did you mean {near}?" in error_line(result)


def test_default_weights_may_be_for_another_domain(cli: Cli) -> None:
    make_tiny_weights(user_folder() / "plain", "faces")
    result = cli("sample", "--domain", "plain", "--seeds", "0")
    assert result.code == 0, result.err
    assert cli("sample", "--domain", "plain", "--weights", "plain", "--seeds", "0").code == 2


def test_latents_of_another_generator(cli: Cli, portrait: Path, tiny_weights: Weights, tmp_path: Path) -> None:
    other = make_tiny_weights(tmp_path / "other", seed=1)
    assert cli("invert", portrait, "--weights", tiny_weights.folder).code == 0
    latents = Path("out/grace/grace.latents.safetensors")
    result = cli("edit", latents, "--weights", other.folder, "--method", "ganspace", "--attribute", "pc1")
    assert result.code == 1
    assert tiny_weights.fingerprint[:12] in error_line(result)
    assert other.fingerprint[:12] in error_line(result)


def test_damaged_weights(cli: Cli, portrait: Path, tmp_path: Path) -> None:
    weights = make_tiny_weights(tmp_path / "damaged")
    path = weights.path("inverter")
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    result = cli("invert", portrait, "--weights", weights.folder)
    assert result.code == 1
    assert "damaged" in error_line(result)
    verified = cli("weights", "verify", weights.folder)
    assert verified.code == 1
    assert "damaged" in verified.out


def test_output_that_cannot_be_written(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    Path("taken").write_text("a file")
    result = cli("invert", portrait, "--weights", tiny_weights.folder, "--out", "taken/out")
    assert result.code == 1
    assert "taken" in error_line(result)
    assert Path("taken").read_text() == "a file"


def test_another_photo_of_the_same_name(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    assert cli("invert", portrait, "--weights", tiny_weights.folder).code == 0
    before = Path("out/grace/grace.crop.png").read_bytes()
    Path("elsewhere").mkdir()
    with Image.open(portrait) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save("elsewhere/grace.jpg")
    result = cli("invert", "elsewhere/grace.jpg", "--weights", tiny_weights.folder)
    assert result.code == 2
    assert "another photo" in error_line(result)
    assert Path("out/grace/grace.crop.png").read_bytes() == before
    edit = ("edit", "elsewhere/grace.jpg", "--weights", tiny_weights.folder, "--edit", "pc1=1")
    assert cli(*edit).code == 2
    assert Path("out/grace/grace.crop.png").read_bytes() == before
    assert cli(*edit, "--overwrite").code == 0
    assert Path("out/grace/grace.crop.png").read_bytes() != before


def test_debug_shows_the_traceback(cli: Cli, tiny_weights: Weights) -> None:
    Path("text.jpg").write_text("hello")
    with pytest.raises(PhotoError, match=r"text\.jpg"):
        cli("invert", "text.jpg", "--weights", tiny_weights.folder, "--debug")


@pytest.mark.parametrize("seeds", ["", "a", "5-2", "0-5000", "1,,2"])
def test_bad_seeds(cli: Cli, seeds: str) -> None:
    result = cli("sample", "--seeds", seeds)
    assert result.code == 2
    assert "seeds" in error_line(result)
