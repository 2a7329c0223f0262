"""`stkit.run`: one photo, many and a clip give the same outputs and report, from Python as from the command."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import stkit
from stkit.editor.editor import Editor
from stkit.editor.refinement import EDIT_QUALITY
from stkit.errors import LatentsError, OutputError, PhotoError, UsageError
from stkit.jobs.report import Row, add_to_report, mean_metric, write_report
from stkit.tensors import load_tensors, save_tensors
from stkit.weights import Weights, find_weights
from tests.cli.harness import Cli, error_line
from tests.jobs.test_video import make_clip

EDIT = ("ganspace:pc1=2",)


@pytest.fixture(autouse=True)
def in_tmp_path(cli: Cli) -> None:
    """`cli` changes there."""


@pytest.fixture
def photos(portrait: Path) -> Path:
    """Two photos."""
    folder = Path("photos")
    folder.mkdir()
    with Image.open(portrait) as image:
        small = image.convert("RGB").resize((256, 300))
    small.save(folder / "a.png")
    small.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "b.png")
    return folder


def contents(out: str) -> dict[str, bytes]:
    """All files but those that say where they are."""
    files = [path for path in Path(out).rglob("*") if path.is_file() and path.name != ".stkit.lock"]
    return {str(path.relative_to(out)): path.read_bytes().replace(out.encode(), b"OUT") for path in files}


@pytest.mark.parametrize("source", ["photos", "photos/a.png"])
def test_the_same_bytes_as_the_command(cli: Cli, source: str, photos: Path, tiny_weights: Weights) -> None:
    assert cli("edit", source, "--edit", *EDIT, "--weights", tiny_weights.folder, "--out", "cli-edit").code == 0
    assert cli("invert", source, "--weights", tiny_weights.folder, "--out", "cli-invert").code == 0
    weights = str(tiny_weights.folder)
    edited = stkit.run(stkit.EditRequest(source, Path("run-edit"), weights=weights, edits=EDIT))
    inverted = stkit.run(stkit.InvertRequest([source], Path("run-invert"), weights=weights))
    for report, count in ((edited, 9), (inverted, 5)):
        assert [row.status for row in report.rows] == ["ok"] * (1 if source.endswith("png") else 2)
        mine, theirs = contents(report.out.name), contents(report.out.name.replace("run", "cli"))
        assert mine == theirs
        assert len(mine) == count * len(report.rows) + 2
    again = stkit.run(stkit.InvertRequest([source], Path("run-invert"), weights=weights))
    assert {row.status for row in again.rows} == {"kept"}
    for row, earlier in zip(again.rows, inverted.rows, strict=True):
        assert row.mse == pytest.approx(earlier.mse, abs=1e-6)
        assert [one.files for one in row.results] == [one.files for one in earlier.results]
        assert [one.summary for one in row.results] == [one.summary for one in earlier.results]


def test_one_photo_is_a_folder_of_one(photos: Path, tiny_weights: Weights) -> None:
    (photos / "b.png").unlink()
    weights = str(tiny_weights.folder)
    for name, source in (("alone-run", "photos/a.png"), ("folder-run", "photos")):
        stkit.run(stkit.EditRequest([source], Path(name), weights=weights, edits=EDIT))
    assert contents("alone-run") == contents("folder-run")
    stkit.run(stkit.EditRequest(["photos/a.png"], Path("crop-one"), weights=weights, edits=EDIT, crop_only=True))
    stkit.run(stkit.EditRequest(["photos"], Path("crop-folder"), weights=weights, edits=EDIT, crop_only=True))
    assert contents("crop-one") == contents("crop-folder")


def test_reports_show_lpips_where_it_is_installed(photos: Path, tiny_weights: Weights) -> None:
    report = stkit.run(stkit.InvertRequest(["photos"], Path("out"), weights=str(tiny_weights.folder)))
    with report.path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    described = json.loads(Path("out/a/a.json").read_text())["metrics"]
    assert float(rows[0]["mse"]) == described["mse"] and float(rows[0]["lpips"]) == described["lpips"] > 0
    told = json.loads(report.path.with_suffix(".json").read_text())["photos"]
    assert told[0]["results"][0]["metrics"] == described
    assert "out/a/a.json" in told[0]["results"][0]["files"]


def test_one_photo_adds_its_row_to_the_report(photos: Path, tiny_weights: Weights) -> None:
    weights = str(tiny_weights.folder)
    stkit.run(stkit.InvertRequest(["photos"], Path("out"), weights=weights))
    stkit.run(stkit.EditRequest(["photos/b.png"], Path("out"), weights=weights, edits=EDIT))
    told = json.loads(Path("out/report.json").read_text())["photos"]
    counts = {row["photo"]: len(row["results"][0]["files"]) for row in told}
    assert counts == {"photos/a.png": 5, "photos/b.png": 4}


def test_a_report_that_is_not_ours_stays(tmp_path: Path) -> None:
    for text in ("", "{}", '{"format": "stkit-report-1", "photos": [{}]}'):
        (tmp_path / "report.csv").write_text("my own table")
        (tmp_path / "report.json").write_text(text)
        add_to_report([Row("a.jpg", "ok")], tmp_path / "report.csv")
        assert (tmp_path / "report.csv").read_text() == "my own table"
        assert (tmp_path / "report.json").read_text() == text
    write_report([Row("a.jpg", "ok"), Row("b.jpg", "failed", "broken")], tmp_path / "report.csv")
    add_to_report([Row("b.jpg", "ok", mse=0.5)], tmp_path / "report.csv")
    with (tmp_path / "report.csv").open(newline="") as file:
        assert [(row["photo"], row["status"], row["mse"]) for row in csv.DictReader(file)] == [
            ("a.jpg", "ok", ""),
            ("b.jpg", "ok", "0.500000"),
        ]


def test_means_are_of_what_all_have() -> None:
    assert mean_metric([{"mse": 1.0}, {"mse": 3.0}], "mse") == 2.0
    assert mean_metric([{"mse": 1.0}, {}], "mse") is None and mean_metric([], "mse") is None


def test_what_is_wrong_with_one_photo_is_raised_and_leaves_nothing(portrait: Path, tiny_weights: Weights) -> None:
    Path("text.jpg").write_text("hello")
    weights = str(tiny_weights.folder)
    for wrong, says in (
        (stkit.InvertRequest("text.jpg", weights=weights), PhotoError),
        (stkit.EditRequest("text.jpg", weights=weights, edits=EDIT), PhotoError),
        (stkit.EditRequest(portrait, weights=weights), UsageError),
        (stkit.EditRequest(portrait, weights=weights, edits=EDIT, blend="mix"), UsageError),
    ):
        with pytest.raises(says):
            stkit.run(wrong)
    for make in (
        lambda: stkit.InvertRequest([]),
        lambda: stkit.InvertRequest(portrait, batch_size=0),
        lambda: stkit.InvertRequest(portrait, latents="both"),  # type: ignore[arg-type]
        lambda: stkit.run(portrait),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError):
            make()
    assert not Path("out").exists()


def test_results_of_a_box_do_not_serve_without_it(portrait: Path, tiny_weights: Weights) -> None:
    def invert(box: str | None) -> str:
        return stkit.run(stkit.InvertRequest(portrait, weights=str(tiny_weights.folder), box=box)).rows[0].status

    assert [invert("120,80,200,240"), invert("120,80,200,240")] == ["ok", "kept"]
    for other in ("120,80,200,241", None):
        with pytest.raises(OutputError, match="made with another box"):
            invert(other)


def test_what_lies_in_the_way_of_one_photo_stays(portrait: Path, tiny_weights: Weights) -> None:
    """Without a description nobody knows what it is; of many photos it is what a killed run left."""
    theirs = Path("out/grace/grace.crop.png")
    theirs.parent.mkdir(parents=True)
    theirs.write_text("my own")
    weights = str(tiny_weights.folder)
    with pytest.raises(OutputError, match="is there already, with other content"):
        stkit.run(stkit.InvertRequest(portrait, weights=weights))
    assert theirs.read_text() == "my own" and len(list(Path("out").rglob("*.*"))) == 1
    Path("folder").mkdir()
    shutil.copy(portrait, "folder")
    assert not stkit.run(stkit.InvertRequest("folder", weights=weights)).failed
    assert theirs.read_bytes()[:4] == b"\x89PNG"


def test_one_photo_beside_codes_of_another_generator(photos: Path, tiny_weights: Weights, tmp_path: Path) -> None:
    other = str(stkit.testing.make_tiny_weights(tmp_path / "other", seed=1).folder)
    stkit.run(stkit.InvertRequest("photos", weights=other, latents="one"))
    (photos / "a.png").rename(photos / "c.png")
    assert stkit.run(stkit.InvertRequest("photos/c.png", weights=str(tiny_weights.folder))).rows[0].status == "ok"
    with pytest.raises(LatentsError, match="belong to generator"):
        stkit.run(stkit.InvertRequest("photos", weights=str(tiny_weights.folder)))


def test_a_clip(cli: Cli, portrait: Path, tiny_weights: Weights) -> None:
    make_clip(Path("clip.mp4"), portrait)
    command = ("edit", "clip.mp4", "--edit", *EDIT, "--weights", tiny_weights.folder, "--batch-size", 4)
    first = cli(*command)
    assert first.code == 0, first.err
    path = Path("out/clip/clip.ganspace-pc1+2.mp4")
    assert first.out.splitlines()[:2] == ["5 of 7 frames edited, 2 without a face", str(path)]
    written = path.stat().st_mtime_ns
    again = cli(*command)
    assert (again.code, again.out, path.stat().st_mtime_ns) == (0, first.out, written)
    (row,) = json.loads(Path("out/report.json").read_text())["photos"]
    assert (row["photo"], row["status"]) == ("clip.mp4", "kept")
    assert row["results"][0]["metrics"] == {"frames": 7, "edited": 5, "without_subject": 2}
    other = cli(*command, "--smooth", 0.5)
    assert other.code == 1 and "smooth 0.08 and not 0.5" in error_line(other)
    Path(f"{path}.json").unlink()
    unknown = cli(*command)
    assert unknown.code == 1 and "is there already; --overwrite replaces it" in error_line(unknown)
    for flags, says in (
        (("--crop-only",), "are for photos, not for a video"),
        (("--box", "1,2,3,4"), "for one photo"),
        (("--preview",), "for one photo"),
    ):
        wrong = cli(*command, *flags)
        assert wrong.code == 2 and says in error_line(wrong)


def test_a_sweep_is_kept_and_its_animation_may_follow(portrait: Path, tiny_weights: Weights) -> None:
    def sweep(animate: bool = False) -> tuple[str, set[str]]:
        request = stkit.EditRequest(portrait, weights=str(tiny_weights.folder), edits=EDIT, sweep="-1:1:3")
        row = stkit.run(dataclasses.replace(request, animate=animate)).rows[0]
        return row.status, {path.suffix for path in row.results[0].files}

    assert sweep() == ("ok", {".png", ".json"})
    assert sweep() == ("kept", {".png", ".json"})
    assert sweep(animate=True) == ("ok", {".png", ".gif", ".json"})
    assert sweep(animate=True) == ("kept", {".png", ".gif", ".json"})


def test_a_reference_may_be_a_latent_file(portrait: Path, equipped_weights: Weights) -> None:
    weights = str(equipped_weights.folder)
    stkit.run(stkit.InvertRequest(portrait, weights=weights))
    codes = []
    for out, ref in (("photo", portrait), ("latents", "out/grace/grace.latents.safetensors")):
        request = stkit.EditRequest(portrait, Path(out), weights=weights, ref=[ref])
        stkit.run(dataclasses.replace(request, method="reference", attribute="age"))
        codes.append(stkit.load_latents(next(Path(out, "grace").glob("*reference*.safetensors"))).codes)
    assert torch.equal(*codes)


def test_weights_say_how_photos_are_inverted_for_edits(photos: Path, tiny_weights: Weights, cli: Cli) -> None:
    shutil.copytree(tiny_weights.folder, "noted")
    tiny_weights = find_weights("noted")
    header, tensors = load_tensors(tiny_weights.path("inverter"))
    save_tensors(tiny_weights.path("inverter"), tensors, dataclasses.replace(header, notes={EDIT_QUALITY: "balanced"}))
    edit = ("edit", "photos/a.png", "--edit", *EDIT, "--weights", tiny_weights.folder)
    by_default = cli(*edit, "--out", "default")
    assert "photos are inverted with --quality balanced" in by_default.err
    assert cli(*edit, "--quality", "balanced", "--out", "named").code == 0
    mine, named = contents("default"), contents("named")
    assert mine.keys() == named.keys()
    assert all(mine[name] == named[name] for name in mine if name.endswith(".png"))
    assert "inverted with" not in cli(*edit, "--quality", "fast", "--out", "fast").err
    inverted = cli("invert", "photos/a.png", "--weights", tiny_weights.folder, "--out", "inverted")
    assert inverted.code == 0 and not read_json("inverted/a/a.json").get("refinements")
    assert "--quality balanced comes closer" in inverted.err
    assert read_json("default/a/a.json")["refinements"]
    again = cli("edit", "inverted/a/a.latents.safetensors", "--edit", *EDIT, "--weights", tiny_weights.folder)
    assert again.code == 0 and "inverted with" not in again.err


def test_an_inversion_that_is_there_is_not_mixed_with_another(
    photos: Path, tiny_weights: Weights, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = ("edit", "photos/a.png", "--weights", tiny_weights.folder, "--edit")
    assert cli(*edit, "ganspace:pc1=1").code == 0
    before = contents("out")
    with monkeypatch.context() as patched:
        patched.setattr(Editor, "invert_framed", lambda *_, **__: pytest.fail("inverted"))
        refused = cli(*edit, "ganspace:pc2=1", "--refine", "optimize:2")
        assert refused.code == 1
        assert "with inverter style-transformer and not style-transformer+optimize:2" in error_line(refused)
        assert "another folder with --out, or give --overwrite" in error_line(refused)
        assert contents("out") == before
    assert cli(*edit, "ganspace:pc2=1").code == 0
    assert cli(*edit, "ganspace:pc2=1", "--refine", "optimize:2", "--overwrite").code == 0
    assert read_json("out/a/a.json")["refinements"]
    assert cli(*edit, "ganspace:pc3=1", "--refine", "optimize:2").code == 0
    pattern = ("edit", "out/**/*.latents.safetensors", "--weights", tiny_weights.folder, "--out", "other")
    refused = cli(*pattern, "--edit", "ganspace:pc1=1", "--quality", "best")
    assert refused.code == 2 and "inverted already" in error_line(refused)


def test_a_second_edit_uses_the_inversion_that_is_there(
    photos: Path, tiny_weights: Weights, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = ("edit", "photos/a.png", "--weights", tiny_weights.folder, "--refine", "optimize:2", "--refine", "pti:2")
    assert cli(*edit, "--edit", "ganspace:pc1=1").code == 0
    assert cli(*edit, "--edit", "ganspace:pc2=1", "--out", "afresh").code == 0
    with monkeypatch.context() as patched:
        patched.setattr(Editor, "invert_framed", lambda *_, **__: pytest.fail("inverted"))
        again = cli(*edit, "--edit", "ganspace:pc2=1")
    assert again.code == 0 and "note: the inversion in out/a is used" in again.err
    made = sorted(Path("out/a").glob("a.ganspace-pc2*"))
    assert len(made) == 4
    for path in made:
        assert path.read_bytes() == Path("afresh/a", path.name).read_bytes()
    (there_too,) = Path("out/a").glob("tuning-*")
    for damage in (lambda: Path("out/a/a.latents.safetensors").write_bytes(b"no"), there_too.unlink):
        damage()
        anew = cli(*edit, "--edit", "ganspace:pc2=1", "--edit", "ganspace:pc3=1")
        assert anew.code == 0 and "is used" not in anew.err


def test_an_inversion_that_falls_short_stays_and_is_told(
    photos: Path, tiny_weights: Weights, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("invert", "photos/a.png", "--weights", tiny_weights.folder).code == 0
    before = contents("out/a")
    monkeypatch.setattr("stkit.jobs.run.edit_quality", lambda _: "balanced")  # as with ffhq
    invert: Any = Editor.invert_framed
    monkeypatch.setattr(Editor, "invert_framed", lambda self, *given: invert(self, *given[:3], ["optimize:2"]))
    edited = cli("edit", "photos/a.png", "--weights", tiny_weights.folder, "--edit", "ganspace:pc1=1")
    assert edited.code == 0
    note = "the inversion in out/a was made with inverter style-transformer and not style-transformer+optimize:100"
    assert note in edited.err and "with --overwrite later edits use the new one" in edited.err
    after = contents("out/a")
    assert len(after) > len(before) and {name: after[name] for name in before} == before


def test_an_edit_by_the_encoder_tells_of_the_closer_inversion_there(
    photos: Path, tiny_weights: Weights, cli: Cli
) -> None:
    weights = ("--weights", tiny_weights.folder)
    assert cli("invert", "photos/a.png", *weights, "--refine", "optimize:2").code == 0
    edited = cli("edit", "photos/a.png", *weights, "--edit", "ganspace:pc1=1")
    assert edited.code == 0
    assert "with inverter style-transformer+optimize:2 and not style-transformer, and stays; its latents" in edited.err
    assert "(a.latents.safetensors) can be edited" in edited.err


def read_json(path: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return content
