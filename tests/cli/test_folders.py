"""`stkit invert` and `stkit edit` of folders and ZIP archives, with real photos, real files and real signals."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from stkit.files import locked
from stkit.latents.latents import load_latents
from stkit.testing import make_tiny_weights
from stkit.weights import Weights
from tests.cli.harness import Cli, error_line
from tests.cli.test_edit import two_faces

ENDS = (".crop.png", ".reconstruction.png", ".side-by-side.png", ".latents.safetensors", ".json")


@pytest.fixture
def photos(portrait: Path, tmp_path: Path) -> Path:
    """Four good photos and one of each kind of broken file."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    with Image.open(portrait) as image:
        small = image.convert("RGB").resize((256, 300))
    for number, name in enumerate(["x.jpg", "x.png", "sub/x.jpg", "sub/été 日本.png"]):
        small.putpixel((0, 0), (number, 0, 0))
        small.save(folder / name)
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("hello")
    (folder / "cut.jpg").write_bytes(portrait.read_bytes()[:20_000])
    Image.new("RGB", (100, 100), "green").save(folder / "sub" / "green.png")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    (folder / "folder.png").mkdir()
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden.jpg").touch()
    return folder


GOOD = {"x.jpg", "x.png", "sub/x", "sub/été 日本"}
BROKEN = {
    "empty.jpg": "empty",
    "text.jpg": "not an image",
    "cut.jpg": "damaged or cut short",
    "sub/green.png": "no face found",
    "gone.jpg": "is a link to nowhere.jpg",
}


def report(out: str = "out") -> dict[str, dict[str, str]]:
    with Path(out, "report.csv").open(encoding="utf-8", newline="") as file:
        return {row["photo"].split("photos/")[-1]: row for row in csv.DictReader(file)}


def results(out: str = "out") -> dict[str, float]:
    return {str(path): path.stat().st_mtime for path in sorted(Path(out).glob("*/**/[!.]*.json"))}


def test_a_folder_with_broken_files(cli: Cli, photos: Path, tiny_weights: Weights) -> None:
    result = cli("invert", photos, "--weights", tiny_weights.folder, "--batch-size", 3)
    assert result.code == 3
    for name in GOOD:
        base = Path("out", name, Path(name).name)
        assert all(base.with_name(base.name + end).is_file() for end in ENDS), name
    rows = report()
    assert len(rows) == len(GOOD) + len(BROKEN)
    assert {name for name, row in rows.items() if row["status"] == "ok"} == {
        "x.jpg",
        "x.png",
        "sub/x.jpg",
        "sub/été 日本.png",
    }
    for name, says in BROKEN.items():
        assert rows[name]["status"] == "failed"
        assert says in rows[name]["reason"]
        assert Path(name).name in result.out
    assert "other files, left aside" in result.out
    latents = load_latents(Path("out/sub/x/x.latents.safetensors"))
    assert latents.provenance[0].photo == str(photos / "sub/x.jpg")

    before = results()
    again = cli("invert", photos, "--weights", tiny_weights.folder)
    assert again.code == 3
    assert results() == before
    assert {row["status"] for row in report().values()} == {"kept", "failed"}
    assert report()["x.jpg"]["mse"] == rows["x.jpg"]["mse"]


def test_what_is_done_is_judged_by_content_settings_and_completeness(
    cli: Cli, photos: Path, tiny_weights: Weights, tmp_path: Path
) -> None:
    from stkit.testing import make_tiny_weights

    for name in BROKEN:
        (photos / name).unlink()
    arguments = ("invert", photos, "--weights", tiny_weights.folder)
    assert cli(*arguments).code == 0
    Path("out/sub/x/x.crop.png").unlink()
    shutil.copy(photos / "x.png", photos / "x.jpg")  # another photo under an old name
    assert cli(*arguments).code == 3
    statuses = {name: row["status"] for name, row in report().items()}
    assert statuses == {"sub/x.jpg": "ok", "x.jpg": "failed", "x.png": "kept", "sub/été 日本.png": "kept"}
    assert "another photo" in report()["x.jpg"]["reason"]
    assert Path("out/sub/x/x.crop.png").is_file()

    other = make_tiny_weights(tmp_path / "other", seed=1)
    assert cli("invert", photos, "--weights", other.folder).code == 3
    assert "made with another generator" in report()["x.png"]["reason"]
    assert load_latents(Path("out/x.png/x.png.latents.safetensors")).generator == tiny_weights.fingerprint
    assert cli("invert", photos, "--weights", other.folder, "--overwrite").code == 0
    assert load_latents(Path("out/x.png/x.png.latents.safetensors")).generator == other.fingerprint


def test_one_photo_by_other_settings_is_refused_before_the_work(
    cli: Cli, photos: Path, tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = ("invert", photos / "x.jpg", "--weights", tiny_weights.folder)
    assert cli(*one).code == 0
    monkeypatch.setattr("stkit.jobs.invert.invert_photos", lambda *_: pytest.fail("the work was done"))
    refused = cli(*one, "--refine", "optimize:3")
    assert (
        refused.code == 1
        and "inverter style-transformer and not style-transformer+optimize:3; choose another folder with --out"
        in error_line(refused)
    )


def test_one_photo_and_its_folder_agree(cli: Cli, photos: Path, tiny_weights: Weights) -> None:
    shutil.rmtree(photos / "sub")
    for name in ("x.jpg", *(name for name in BROKEN if "/" not in name)):
        (photos / name).unlink()
    assert cli("invert", photos / "x.png", "--weights", tiny_weights.folder).code == 0
    assert cli("invert", photos, "--weights", tiny_weights.folder).code == 0
    assert report()["x.png"]["status"] == "kept"


def test_one_latent_file_for_all(cli: Cli, photos: Path, tiny_weights: Weights) -> None:
    arguments = ("invert", photos, "--weights", tiny_weights.folder, "--latents", "one")
    assert cli(*arguments).code == 3
    joined = load_latents(Path("out/latents.safetensors"))
    assert [Path(str(row.photo)).name for row in joined.provenance] == ["x.jpg", "été 日本.png", "x.jpg", "x.png"]
    assert not list(Path("out").rglob("x*.latents.safetensors"))
    assert cli(*arguments).code == 3
    assert {row["status"] for row in report().values()} == {"kept", "failed"}
    again = load_latents(Path("out/latents.safetensors"))
    assert again.codes.equal(joined.codes) and again.provenance == joined.provenance

    shutil.copy(photos / "x.png", photos / "new.png")
    assert cli(*arguments).code == 3
    assert len(load_latents(Path("out/latents.safetensors"))) == 5


def test_a_zip_archive(cli: Cli, photos: Path, tiny_weights: Weights) -> None:
    with zipfile.ZipFile("album.zip", "w") as archive:
        for name in ("x.jpg", "sub/x.jpg", "text.jpg", "notes.txt"):
            archive.write(photos / name, name)
    result = cli("invert", "album.zip", "--weights", tiny_weights.folder)
    assert result.code == 3
    assert {path for path, row in report().items() if row["status"] == "ok"} == {
        "album.zip/x.jpg",
        "album.zip/sub/x.jpg",
    }
    edited = cli("edit", "out/x/x.latents.safetensors", "--weights", tiny_weights.folder, "--edit", "ganspace:pc1=2")
    assert edited.code == 0, edited.err
    assert "no paste-back" not in edited.err  # the photo was found again in the archive
    with Image.open("out/x/x.ganspace-pc1+2.jpg") as image:
        assert image.size == (256, 300)


def test_names_that_are_no_utf8(cli: Cli, photos: Path, tiny_weights: Weights) -> None:
    Path("odd").mkdir()
    shutil.copy(photos / "x.jpg", os.fsdecode(b"odd/caf\xe9.jpg"))
    Path(os.fsdecode(b"odd/bad\xff.jpg")).touch()
    result = cli("invert", "odd", "--weights", tiny_weights.folder)
    assert result.code == 3, result.err
    assert Path(os.fsdecode(b"out/caf\xe9/caf\xe9.json")).is_file()
    assert "\\udcff.jpg is empty" in result.out


def test_edit_of_a_folder(cli: Cli, photos: Path, tiny_weights: Weights) -> None:
    arguments = ("edit", photos, "--weights", tiny_weights.folder, "--edit", "ganspace:pc1=3")
    result = cli(*arguments)
    assert result.code == 3, result.err
    base = Path("out/sub/x/x.ganspace-pc1+3")
    with Image.open(f"{base}.jpg") as edited, Image.open(photos / "sub/x.jpg") as photo:
        assert edited.format == "JPEG" and edited.size == photo.size
        assert edited.tobytes() != photo.tobytes()
    assert load_latents(Path(f"{base}.latents.safetensors")).provenance[0].edits == ("ganspace:pc1=+3",)
    assert Path("out/x.png/x.png.ganspace-pc1+3.png").is_file()
    assert set(report()) == {*BROKEN, "x.jpg", "x.png", "sub/x.jpg", "sub/été 日本.png"}
    before = results()
    assert cli(*arguments).code == 3
    assert results() == before
    assert cli(*arguments, "--blend", "replace").code == 3
    assert "made with blend auto and not replace; choose another folder" in report()["x.jpg"]["reason"]
    crops = cli(*arguments, "--crop-only", "--out", "crops")
    assert crops.code == 3
    with Image.open("crops/sub/x/x.ganspace-pc1+3.crop.png") as crop:
        assert crop.size == (16, 16)


def test_flags_for_one_photo_are_refused(cli: Cli, photos: Path, tiny_weights: Weights) -> None:
    for command in (("invert",), ("edit", "--edit", "ganspace:pc1=1")):
        for flags in (("--face", "10,20"), ("--box", "1,2,3,4")):
            result = cli(command[0], photos, *command[1:], "--weights", tiny_weights.folder, *flags)
            assert result.code == 2
            assert "for one photo" in error_line(result)
    one = cli("invert", photos / "x.jpg", "--weights", tiny_weights.folder, "--sheet")
    assert one.code == 2 and "for many photos" in error_line(one)


def test_all_faces_of_a_folder(cli: Cli, portrait: Path, tiny_weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "group").mkdir()
    two_faces(portrait).rename(tmp_path / "group/two.png")
    shutil.copy(portrait, tmp_path / "group/one.jpg")
    arguments = (tmp_path / "group", "--weights", tiny_weights.folder)
    result = cli("invert", *arguments, "--face", "all", "--sheet", "--latents", "one")
    assert result.code == 0, result.err
    assert len(load_latents(Path("out/latents.safetensors"))) == 3
    assert {json.loads(Path(f"out/two/two{end}.json").read_text())["subject"] for end in ("", ".face2")} == {1, 2}
    with Image.open("out/contact-sheet.jpg") as sheet:
        assert sheet.width > 3 * 16
    before = results()
    assert cli("invert", *arguments, "--face", "all", "--latents", "one").code == 0
    assert results() == before
    Path("out/two/two.face2.json").unlink()
    assert cli("invert", *arguments, "--face", "all").code == 0
    assert {row["status"] for row in report().values()} == {"ok", "kept"}

    edit = ("--edit", "ganspace:pc1=3", "--out", "edited")
    assert cli("edit", *arguments, *edit, "--face", "all", "--sheet").code == 0
    assert len(load_latents(Path("edited/two/two.all.ganspace-pc1+3.latents.safetensors"))) == 2
    assert Path("edited/contact-sheet.jpg").is_file()
    second = cli("edit", *arguments, *edit, "--face", 2)
    assert second.code == 3
    assert "there is no face 2 in" in second.out
    assert len(load_latents(Path("edited/two/two.face2.ganspace-pc1+3.latents.safetensors"))) == 1


def test_refined_in_a_folder(cli: Cli, photos: Path, tiny_weights: Weights) -> None:
    flags = ("--weights", tiny_weights.folder, "--refine", "optimize:2", "--refine", "pti:2")
    single = cli("invert", photos / "sub/x.jpg", *flags, "--out", "single")
    assert single.code == 0, single.err
    assert cli("invert", photos / "sub", *flags).code == 3
    alone, one_of_many = (load_latents(path) for path in sorted(Path().glob("*/x/x.latents.safetensors")))
    assert alone.tuning and one_of_many.tuning
    assert alone.codes.allclose(one_of_many.codes, atol=1e-4)
    gains = json.loads(Path("out/x/x.json").read_text())["refinements"]
    assert [gain["refinement"] for gain in gains] == ["optimize:2", "pti:2"]
    edited = cli("edit", photos / "sub", *flags, "--edit", "ganspace:pc1=3", "--out", "edited")
    assert edited.code == 3
    assert load_latents(Path("edited/x/x.ganspace-pc1+3.latents.safetensors")).tuning
    refused = cli("invert", photos, *flags, "--latents", "one")
    assert refused.code == 2 and "pti tunes a generator for each photo" in error_line(refused)


def test_latents_of_many_photos_stand_for_them(cli: Cli, photos: Path, tiny_weights: Weights) -> None:
    weights = ("--weights", tiny_weights.folder)
    assert cli("invert", photos, *weights, "--latents", "one").code == 3
    assert cli("invert", photos / "sub/x.jpg", *weights, "--out", "single").code == 0
    own = "single/x/x.latents.safetensors"
    edit = ("--edit", "ganspace:pc1=3", *weights)
    result = cli("edit", "out/latents.safetensors", "single/*/*.latents.safetensors", *edit, "--out", "edited")
    assert result.code == 0, result.err
    pictures = sorted(path.name for path in Path("edited").rglob("*+3.*g"))
    assert len([name for name in pictures if "before-after" not in name]) == 5, pictures
    assert cli("edit", photos / "sub/x.jpg", *edit, "--out", "direct").code == 0
    (twin,) = Path("edited").glob("x.latents/*+3.jpg")
    assert twin.read_bytes() == Path("direct/x/x.ganspace-pc1+3.jpg").read_bytes()
    assert {row["status"] for row in report("edited").values()} == {"ok"}
    assert cli("edit", "out/latents.safetensors", own, *edit, "--out", "edited").code == 0
    assert {row["status"] for row in report("edited").values()} == {"kept"}

    (photos / "sub/x.jpg").unlink()
    again = cli("edit", "out/latents.safetensors", own, *edit, "--out", "again")
    assert again.code == 0
    assert "no paste-back" in Path("again/report.csv").read_text()
    Path("broken.safetensors").write_text("hello")
    broken = cli("edit", "broken.safetensors", own, *edit, "--out", "third")
    assert broken.code == 3 and "cannot read latents from broken.safetensors" in " ".join(broken.out.split())


def test_latents_of_weights_without_an_inverter(
    cli: Cli, tiny_weights: Weights, tmp_path: Path, portrait: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(tiny_weights.path("generator"), bare)
    assert cli("sample", "--weights", bare, "--seeds", "0-1", "--out", "s").code == 0
    (latents,) = Path("s").glob("*.safetensors")
    edit = ("--weights", bare, "--edit", "sefa:eig1=1")
    assert cli("edit", latents, *edit).code == 0
    assert [row["status"] for row in report().values()] == ["ok", "ok"]
    beside = cli("edit", latents, portrait, *edit, "--out", "other")
    assert beside.code == 2 and "'bare' have no inverter; choose one" in error_line(beside)


def test_a_foreign_latent_file_costs_itself_alone(
    cli: Cli, photos: Path, tiny_weights: Weights, tmp_path: Path
) -> None:
    other = make_tiny_weights(tmp_path / "other", seed=5)
    for weights, out in ((tiny_weights, "own"), (other, "foreign")):
        assert cli("invert", photos / "sub/x.jpg", "--weights", weights.folder, "--out", out).code == 0
    result = cli("edit", "*/x/*.safetensors", "--edit", "ganspace:pc1=3", "--weights", tiny_weights.folder)
    assert result.code == 3, result.err
    rows = report()
    assert rows["own/x/x.latents.safetensors"]["status"] == "ok"
    assert "belong to generator" in rows["foreign/x/x.latents.safetensors"]["reason"]


def test_edits_by_another_direction_of_that_name_do_not_serve(cli: Cli, photos: Path, tiny_weights: Weights) -> None:
    weights = ("--weights", tiny_weights.folder)

    def edit(*flags: str) -> str:
        assert cli("edit", photos / "sub", "--edit", "ganspace:turn=2", *weights, *flags).code == 3
        return report()["sub/x.jpg"]["status"]

    assert cli("name-component", "pc1", "turn", *weights).code == 0
    assert [edit(), edit()] == ["ok", "kept"]
    assert cli("name-component", "pc2", "turn", "--replace", *weights).code == 0
    assert edit() == "failed" and "made with other directions" in report()["sub/x.jpg"]["reason"]
    assert edit("--overwrite") == "ok"


def test_tuned_generators_are_of_one_photo_each(cli: Cli, photos: Path, tiny_weights: Weights) -> None:
    tune = ("--inverter", "pti", "-o", "steps=1", "-o", "pivot_steps=1", "--weights", tiny_weights.folder)
    assert cli("invert", photos / "x.*", *tune).code == 0
    assert len(list(Path("out").rglob("tuning-*"))) == 2
    refused = cli("invert", photos, *tune, "--latents", "one")
    assert refused.code == 2 and "pti tunes a generator for each photo" in error_line(refused)


def test_two_processes_in_one_folder(cli: Cli, photos: Path, tiny_weights: Weights) -> None:
    with locked(Path("out")):
        result = cli("invert", photos, "--weights", tiny_weights.folder)
    assert result.code == 1
    assert "another stkit is writing to out" in error_line(result)
    assert not Path("out/report.csv").exists()


def test_damaged_weights_end_the_run(cli: Cli, photos: Path, tiny_weights: Weights, tmp_path: Path) -> None:
    shutil.copytree(tiny_weights.folder, tmp_path / "damaged")
    path = tmp_path / "damaged" / "inverter.safetensors"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    result = cli("invert", photos, "--weights", tmp_path / "damaged")
    assert result.code == 1
    assert "damaged" in error_line(result)
    assert "not reached" in {row["status"] for row in report().values()}


def _many(photos: Path, count: int) -> Path:
    folder = photos.with_name("many")
    folder.mkdir()
    for number in range(count):
        with Image.open(photos / "x.jpg") as image:
            image.putpixel((0, 0), (number, 0, 0))
            image.save(folder / f"{number:03}.png")
    return folder


def _started(folder: Path, weights: Weights) -> subprocess.Popen[str]:
    """`stkit invert` in a process of its own, in the middle of its work."""
    command = [sys.executable, "-m", "stkit", "invert", str(folder), "--weights", str(weights.folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [*command, "--batch-size", "1"],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while len(results()) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return process


def test_killed_and_started_again(cli: Cli, photos: Path, tiny_weights: Weights) -> None:
    folder = _many(photos, 16)
    process = _started(folder, tiny_weights)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    done = results()
    assert 2 <= len(done) < 16
    for path in done:  # what has a description is complete
        base = path.removesuffix(".json")
        for end in ENDS[:3]:
            with Image.open(base + end) as image:
                image.load()
        assert json.loads(Path(path).read_text())["sha256"]
        load_latents(Path(base + ".latents.safetensors"))

    leftover = next(iter(done)).removesuffix(".json") + ".crop.png"
    Path("out/000/.000.crop-0123456789ab.png").touch()  # as a kill in the middle of a file leaves it
    Path("out/000/000.json").unlink(missing_ok=True)
    result = cli("invert", folder, "--weights", tiny_weights.folder)
    assert result.code == 0, result.err
    assert len(results()) == 16
    kept = {path for path, row in report().items() if row["status"] == "kept"}
    assert len(kept) >= len(done) - 1
    assert Path(leftover).is_file()
    assert not [path for path in Path("out").rglob(".*") if path.name != ".stkit.lock"]
    assert all(results()[path] == written for path, written in done.items() if "000" not in path)


def test_interrupted_it_says_so_and_reports(photos: Path, tiny_weights: Weights, cli: Cli) -> None:
    process = _started(_many(photos, 16), tiny_weights)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err and "Traceback" not in err
    statuses = [row["status"] for row in report().values()]
    assert len(statuses) == 16
    assert "ok" in statuses and "not reached" in statuses
