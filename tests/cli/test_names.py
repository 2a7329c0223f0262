"""Names out of files never lead out of `--out`, and what has another name never takes another's place."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from stkit.latents.latents import Latents, load_latents, save_latents
from stkit.tensors import save_tensors
from stkit.testing import random_latents
from stkit.weights import Weights, load_header
from tests.cli.harness import Cli, error_line

OUT = Path("deep/out")
PHOTOS = [
    "..", "/", "", ".", "...", "a/../../b", "../../../up.jpg", "/etc/x.jpg", "//etc//x.jpg", "etc/x.jpg",
    "C:\\Users\\x.jpg", "C:x.jpg", "..\\..\\y.jpg", "CON", "con.jpg", "nul.tar.gz", "LPT1.", "x\0.jpg",
    "x\n\x1b[31m.jpg",
    "long" * 100 + "1.jpg", "long" * 100 + "2.jpg", "/".join(["deep"] * 900), "ends. ", "ends.", "ends", "ENDS",
    ".hidden", "..jpg", "report.csv", "latents.safetensors", ".stkit.lock", "0", "a?b", "a*b", "\ud800.jpg",
    "\udcc3\udca9", "\u00e9", "e\u0301",
]  # fmt: skip


@pytest.fixture
def around(tmp_path: Path) -> dict[Path, bytes]:
    """What lies around the output folder, some of it named like what a killed stkit leaves behind."""
    for place in (".", "deep", "deep/beside"):
        folder = tmp_path / place
        folder.mkdir(exist_ok=True)
        for name in (".x-0123456789ab.png", "b.json", "up.json"):
            (folder / name).write_text(f"{place}/{name}")
    return outside()


def outside() -> dict[Path, bytes]:
    """All files but those of the output folder and the latents that are edited."""
    files = (path for path in Path.cwd().rglob("*") if path.is_file() and Path.cwd() / OUT not in path.parents)
    return {path: path.read_bytes() for path in files if not path.name.endswith((".safetensors", ".jpg", ".zip"))}


def report() -> list[dict[str, str]]:
    with (OUT / "report.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def from_photos(weights: Weights, photos: list[str | None]) -> Latents:
    latents = random_latents(weights, len(photos))
    rows = tuple(dataclasses.replace(row, photo=photo) for row, photo in zip(latents.provenance, photos, strict=True))
    return dataclasses.replace(latents, provenance=rows)


def test_latents_of_any_photos_are_written_below_out(
    cli: Cli, tiny_weights: Weights, around: dict[Path, bytes]
) -> None:
    photos = [*PHOTOS, None]
    save_latents(from_photos(tiny_weights, photos), "all.latents.safetensors")
    arguments = ("edit", "all.latents.safetensors", "--weights", tiny_weights.folder, "--edit", "sefa:eig1=1")
    result = cli(*arguments, "--out", OUT)
    assert result.code == 0, result.err + result.out
    rows = report()
    assert [row["status"] for row in rows] == ["ok"] * len(photos)
    assert len({row["photo"] for row in rows}) == len({row["folder"].casefold() for row in rows}) == len(photos)
    assert all(OUT in Path(row["folder"]).parents and ".." not in Path(row["folder"]).parts for row in rows)
    written = [load_latents(path).provenance for path in OUT.rglob("*.latents.safetensors")]
    assert sorted(str(row.photo) for (row,) in written) == sorted(map(str, photos))
    names = [path.name for path in OUT.rglob("*")]
    assert not [name for name in names if name.startswith(".") and name != ".stkit.lock"]
    assert not [name for name in names if len(name.encode()) > 250 or set(name) & set('\\:?*"<>|\n\0')]
    assert outside() == around
    assert cli(*arguments, "--out", OUT).code == 0
    assert {row["status"] for row in report()} == {"kept"}


@pytest.mark.parametrize("photos", list(itertools.pairwise(PHOTOS[:12])))
def test_two_photos_of_one_latent_file(
    photos: tuple[str, str], cli: Cli, tiny_weights: Weights, around: dict[Path, bytes]
) -> None:
    save_latents(from_photos(tiny_weights, [*photos]), "two.safetensors")
    result = cli("edit", "two.safetensors", "--weights", tiny_weights.folder, "--edit", "sefa:eig1=1", "--out", OUT)
    assert result.code == 0, result.err + result.out
    assert len({Path(row["folder"]) for row in report()}) == 2
    assert outside() == around


def test_photos_that_are_not_called_anything(cli: Cli, tiny_weights: Weights) -> None:
    """A name that is no text is a damaged file, not another photo."""
    save_latents(from_photos(tiny_weights, [["x"], 5]), "odd.safetensors")  # type: ignore[list-item]
    result = cli("edit", "odd.safetensors", "--weights", tiny_weights.folder, "--edit", "sefa:eig1=1")
    assert result.code == 1 and "'0.photo' should be text" in error_line(result)


@pytest.mark.parametrize("name", [".latents.safetensors", "...latents.safetensors", "..safetensors", "con.safetensors"])
def test_latent_files_of_odd_names(name: str, cli: Cli, tiny_weights: Weights, around: dict[Path, bytes]) -> None:
    save_latents(random_latents(tiny_weights, 1), name)
    result = cli("edit", name, "--weights", tiny_weights.folder, "--edit", "sefa:eig1=1", "--out", OUT)
    assert result.code == 0, result.err
    assert len(list(OUT.glob("_*~*.sefa-eig1+1.latents.safetensors"))) == 1
    assert outside() == around


@pytest.mark.parametrize("name", ["...jpg", "..jpg", "....jpg", ".hidden.jpg", "aux.jpg", "x" * 240 + ".jpg"])
def test_photos_of_odd_names(
    name: str, cli: Cli, portrait: Path, tiny_weights: Weights, around: dict[Path, bytes]
) -> None:
    shutil.copy(portrait, name)
    weights = ("--weights", tiny_weights.folder, "--out", OUT)
    for _ in range(2):  # the second time they are in their place already
        assert cli("invert", name, *weights).code == 0
    assert cli("edit", name, "--edit", "sefa:eig1=1", *weights).code == 0
    assert cli("faces", name, "--out", OUT).code == 0
    (folder,) = [path for path in OUT.iterdir() if path.name not in ("report.csv", "report.json")]
    assert len(list(folder.iterdir())) == 10
    assert all(path.name.startswith(folder.name) for path in folder.iterdir())
    assert outside() == around


def test_all_photos_of_an_archive(cli: Cli, portrait: Path, tiny_weights: Weights, around: dict[Path, bytes]) -> None:
    with Image.open(portrait) as image:
        small = image.convert("RGB").resize((256, 300))
    names = [
        "a/b.jpg", "a__b.jpg", "A__B.jpg", "../a/b.jpg", "a/../a/b.jpg", "/a/b.jpg", "a\\b.jpg", "con.jpg", "C:b.jpg",
        "y" * 300 + "1.jpg", "y" * 300 + "2.jpg", "report.csv.jpg", "a/b.jpg/c.jpg", "d/" * 700 + "e.jpg",
    ]  # fmt: skip
    with zipfile.ZipFile("collide.zip", "w") as archive:
        for number, name in enumerate(names):
            small.putpixel((0, 0), (0, number, 0))
            data = io.BytesIO()
            small.save(data, "PNG")
            archive.writestr(name, data.getvalue())
    result = cli("invert", "collide.zip", "--weights", tiny_weights.folder, "--out", OUT)
    assert result.code == 0, result.out + result.err
    rows = report()
    assert len({row["sha256"] for row in rows}) == len({row["folder"].casefold() for row in rows}) == len(names)
    assert all(OUT in Path(row["folder"]).parents for row in rows)
    described = {json.loads(path.read_text())["sha256"] for path in OUT.glob("*/**/*.json")}
    assert described == {row["sha256"] for row in rows}
    assert outside() == around


@pytest.mark.parametrize("field", ["kind", "architecture"])
@pytest.mark.parametrize("said", ["x/../../../evil", "/nowhere/evil", "..", "", "a\\b", ["inverter"]])
def test_weights_that_call_themselves_a_path(
    field: str, said: object, cli: Cli, tiny_weights: Weights, tmp_path: Path
) -> None:
    assert cli("weights", "import", tiny_weights.path("generator"), "--name", "mine").code == 0
    assert cli("weights", "import", tiny_weights.path("inverter"), "--name", "mine").code == 0
    header = load_header(tiny_weights.path("inverter-psp"))
    header = dataclasses.replace(header, fingerprint="", **{field: said})  # type: ignore[arg-type]
    save_tensors(tmp_path / "evil.safetensors", {"x": torch.zeros(1)}, header)
    before = sorted(tmp_path.rglob("*"))
    result = cli("weights", "import", "evil.safetensors", "--name", "mine")
    assert result.code == 1 and "of its header, '" in error_line(result)
    assert sorted(tmp_path.rglob("*")) == before


def test_fingerprints_that_are_paths(tiny_weights: Weights) -> None:
    """Of a tuning and of a generator: the names of their files are made of them."""
    from stkit_ganspace.components import STORED

    from stkit.latents.tuning import tuning_filename

    assert Path(tuning_filename("../../../../../x")).name == tuning_filename("../../../../../x")
    header = dataclasses.replace(tiny_weights.header, fingerprint="../../x")
    cached = STORED._cached(dataclasses.replace(tiny_weights, header=header))
    assert ".." not in cached.parts


def test_wrong_options_do_not_steer_the_terminal(cli: Cli) -> None:
    done = cli("sample", "--a\x1b[31m\x07\x9b2J\u202eb", "1")
    assert done.code == 2
    assert not set("\x1b\x07\x9b\u202e") & set(done.err)
    assert "\\u202eb" in done.err
