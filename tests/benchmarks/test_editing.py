"""The benchmark of edits: its judges on faces and on landmarks of our making, its figures on edits that are known."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from stkit_faces.ages import MOST_LOG_ODDS, ages_and_sexes
from stkit_faces.domain import FACES_TEMPLATE, FacesDomain

import stkit
from benchmarks import pictures
from benchmarks.editing import Faces, Job, find_jobs, main, measure
from benchmarks.editing_report import is_monotonic
from benchmarks.judges import BOXES, JUDGED, Judge, column, landmark_features, validity
from stkit.contracts.editing import Attribute, EditContext, EditingMethod
from stkit.contracts.framing import AlignmentTemplate
from stkit.datasets.images import ImageSet
from stkit.editor.editor import Editor
from stkit.errors import StkitError
from stkit.latents.latents import Latents
from stkit.options import Options
from stkit.photo.alignment import crop_photo
from stkit.photo.images import to_image, to_tensor
from stkit.photo.reading import load_photo
from stkit.plugins import load_plugins
from stkit.testing import random_latents
from stkit.weights import Weights


def crops_of(portrait: Path, count: int) -> list[Image.Image]:
    """The portrait's aligned crop, shifted by a pixel more each time."""
    photo = load_photo(portrait).image
    domain = FacesDomain()
    matrix = domain.transform(domain.locate(photo)[0], FACES_TEMPLATE, 128)
    shift = np.zeros((2, 3))
    shift[0, 2] = np.hypot(*matrix[:, 0])
    return [crop_photo(photo, matrix + i * shift, 128) for i in range(count)]


def face_points(smile: float = 0.0, turn: float = 0.0, angle: float = 0.0, scale: float = 40.0) -> np.ndarray:
    """68 landmarks [1, 68, 2] of a drawn face: eyes one unit apart, then turned by `angle` and enlarged."""
    points = np.zeros((68, 2))
    points[36:42] = (-0.5, 0)
    points[42:48] = (0.5, 0)
    points[30] = (turn, 0.6)
    points[[48, 54]] = (-0.4 - smile / 4, 1 - smile / 4), (0.4 + smile / 4, 1 - smile / 4)
    points[[51, 57]] = (0, 0.9), (0, 1.1)
    cos, sin = np.cos(angle), np.sin(angle)
    return (points @ np.array([[cos, sin], [-sin, cos]]) * scale + 64)[None]


@pytest.mark.parametrize(("angle", "scale"), [(0.0, 40.0), (0.3, 40.0), (-0.5, 90.0)])
def test_landmark_features_know_smile_and_yaw_whatever_size_and_tilt(angle: float, scale: float) -> None:
    smile, yaw = landmark_features(face_points(smile=0.4, turn=0.15, angle=angle, scale=scale))
    assert smile[0] == pytest.approx([1.0, 0.1])  # width 0.8 + 2 x 0.1, corners 0.1 above the middle
    assert yaw[0] == pytest.approx([0.15])


def test_ages_and_sexes_are_what_the_package_says(portrait: Path) -> None:
    """Of Rear Admiral Hopper, in her seventies: 80, and a man with 67 to 85%, as `predict_face` says of such crops."""
    crop = crops_of(portrait, 1)[0]
    ages, sexes = ages_and_sexes(
        [crop, crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)], 2 * [BOXES["points"] * crop.width]
    )
    assert ages == pytest.approx([80, 80], abs=3)
    assert sexes.min() > 0
    assert sexes.max() < 6.91


def test_judges_know_faces_that_are_framed_as_ffhq(portrait: Path) -> None:
    photo = load_photo(portrait).image
    domain = FacesDomain()
    subject = domain.locate(photo)[0]
    crops = {
        template.kind: crop_photo(photo, domain.transform(subject, template, size), size)
        for template, size in ((FACES_TEMPLATE, 128), (AlignmentTemplate("ffhq"), 256))
    }
    judge = Judge((1.0, 0.0, 0.0), (1.0, 0.0))
    ours, theirs = (
        dataclasses.replace(judge, framing=kind)(to_tensor(crop))[0] for kind, crop in sorted(crops.items())
    )
    assert (np.abs(ours - theirs) < [5, 3, 0.1, 0.05]).all(), (ours, theirs)


def test_validity_compares_only_what_is_labelled() -> None:
    scores = np.array([[30.0, 2.0, 0.1, -5.0], [50.0, -1.0, 0.5, 0.0], [70.0, 3.0, 0.9, 5.0]])
    rows = [("34", "M", "0", "-10"), ("", "", "0.5", "0"), ("68", "F", "1", "10")]
    labels = [dict(zip(JUDGED, row, strict=True)) for row in rows]
    found = validity(scores, labels)
    assert found["age_mae"] == 3.0
    assert found["sex_accuracy"] == 0.5
    assert found["smile_r"] == pytest.approx(1.0)
    assert found["yaw_r"] == pytest.approx(1.0)
    assert validity(scores, [{"file": "a.webp"}] * 3) == {}
    with pytest.raises(StkitError, match="a column age of numbers"):
        column([{"age": "old"}], "age")


class Planted(EditingMethod[Options]):
    """Adds the strength to the first number of the codes; with references, goes half of the way to theirs."""

    name = "planted"
    description = "moves one number"
    paper = "none"

    def attributes(self, context: EditContext) -> list[Attribute]:
        return [Attribute("smile", "the first number"), Attribute("hats", "not judged")]

    def edit(self, latents: Latents, options: Options, context: EditContext) -> Latents:
        codes = latents.codes.clone()
        if context.references is None:
            codes[:, 0, 0] += context.strength
        else:
            codes[:, 0, 0] += 0.5 * (context.references.codes[:, 0, 0] - codes[:, 0, 0])
        return latents.replace(codes)


class PlantedReference(Planted):
    name = "planted-reference"
    needs_reference = True


class Reader(Judge):
    """Reads the four judged numbers from the picture's first pixels, where `Painter` puts the codes."""

    def __call__(self, images: torch.Tensor) -> np.ndarray:
        return images[:, 0, 0, :4].double().numpy() * np.array([10.0, 4.0, 2.0, 8.0])


class Painter(Editor):
    """Paints the first code's number as the smile, with the others fixed, and noise that the metrics can see."""

    def generate(self, latents: Latents, resolution: int | None = None) -> torch.Tensor:
        smile = latents.codes[:, 0, 0] / 10
        images = torch.zeros(len(latents), 3, 64, 64)
        images[:, 0, 0, 2] = smile
        images[:, 0, 0, 3] = smile / 4
        images[:, :, 32:] = (smile / 2)[:, None, None, None]
        return images


def planted_faces(painter: Painter, judge: Judge, count: int = 20) -> Faces:
    latents = random_latents(painter.weights, count)
    images = painter.generate(latents)
    photos = ImageSet(images.byte(), tuple(map(str, range(count))))
    return Faces(photos, (latents,), images, judge(images))


def test_planted_edits_are_measured_as_what_they_are(tiny_weights: Weights) -> None:
    registry = load_plugins()
    painter, judge = Painter(tiny_weights, registry, torch.device("cpu")), Reader((), ())
    faces = planted_faces(painter, judge)
    counts: list[int] = []
    deviations = np.array([1.0, 1.0, 0.1, 0.2])
    partners = [(row + 1) % 20 for row in range(20)]
    row, pictures = measure(painter, Job(Planted(), "smile", 1.5), faces, partners, judge, deviations, counts.append)
    # 1.5 / 10 in the picture: 0.3 of the judge's smile and 0.3 of its yaw.
    assert row.shift == pytest.approx({"age": 0, "sex": 0, "smile": 3.0, "yaw": 1.5}, abs=1e-4)
    assert row.spread == pytest.approx(row.shift, abs=1e-4)
    assert row.dependency == pytest.approx(0.5, abs=1e-4)
    assert row.share is None
    assert row.lpips > 0.001
    assert row.identity < 0.9999
    assert sum(counts) == 20
    assert len(pictures) == 2
    back, _ = measure(painter, Job(Planted(), "smile", -1.5), faces, partners, judge, deviations, counts.append)
    assert back.shift["smile"] == pytest.approx(-3.0, abs=1e-4)
    assert back.spread["smile"] == pytest.approx(3.0, abs=1e-4)
    rows = [dataclasses.asdict(edit) for edit in (back, row)]
    assert is_monotonic(rows)
    assert not is_monotonic([{**edit, "strength": -edit["strength"]} for edit in rows])


class Sure(Reader):
    """Sure of the sex where the smile is above 0; it reads the sex from the smile."""

    def __call__(self, images: torch.Tensor) -> np.ndarray:
        scores = super().__call__(images)
        scores[:, 1] = np.where(scores[:, 2] > 0, MOST_LOG_ODDS, -1.0)
        return scores


class PlantedSex(Planted):
    def edit(self, latents: Latents, options: Options, context: EditContext) -> Latents:
        return super().edit(latents, options, dataclasses.replace(context, strength=1000 * context.strength))


def test_faces_that_a_judge_is_sure_of_have_no_room(tiny_weights: Weights) -> None:
    painter, judge = Painter(tiny_weights, load_plugins(), torch.device("cpu")), Sure((), ())
    faces = planted_faces(painter, judge)
    sure = int((faces.scores[:, 1] > 0).sum())
    assert 0 < sure < 20
    rows = [
        measure(painter, Job(PlantedSex(), "sex", strength), faces, range(20), judge, np.ones(4), lambda count: None)[0]
        for strength in (1.0, -1.0)
    ]
    assert [row.room for row in rows] == [20 - sure, 20]
    assert rows[0].in_room == pytest.approx(MOST_LOG_ODDS + 1, abs=1e-4)
    assert rows[0].shift["sex"] == pytest.approx((20 - sure) / 20 * (MOST_LOG_ODDS + 1), abs=1e-4)
    assert rows[1].in_room == pytest.approx(rows[1].shift["sex"])


def test_half_of_the_way_to_the_reference_is_a_share_of_one_half(tiny_weights: Weights) -> None:
    painter, judge = Painter(tiny_weights, load_plugins(), torch.device("cpu")), Reader((), ())
    faces = planted_faces(painter, judge)
    partners = [(row + 1) % 20 for row in range(20)]
    job = Job(PlantedReference(), "smile", 1.0)
    row, _ = measure(painter, job, faces, partners, judge, np.ones(4), lambda count: None)
    assert row.share == pytest.approx(0.5, abs=1e-4)


def test_jobs_are_the_attributes_that_a_method_has(tiny_weights: Weights) -> None:
    registry = load_plugins()
    methods = {"ganspace": registry.editing_method("ganspace"), "planted": Planted(), "pr": PlantedReference()}
    editor = Editor(tiny_weights, dataclasses.replace(registry, editing_methods=methods), torch.device("cpu"))
    jobs, notes = find_jobs(editor, [], JUDGED, [-1.0, 2.0])
    assert [(job.method.name, job.attribute, job.strength) for job in jobs] == [
        ("planted", "smile", -1.0),
        ("planted", "smile", 2.0),
        ("planted-reference", "smile", 1.0),
    ]
    assert notes == ["ganspace: has none of age, sex, smile, yaw"]


def write_data(portrait: Path, folder: Path) -> Path:
    """A zip of 12 crops for each of val and test, with a CSV beside it."""
    rows = ["file,split,age,sex,smile,yaw"]
    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        for i, crop in enumerate(crops_of(portrait, 12)):
            encoded = io.BytesIO()
            (crop if i % 2 else crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).save(encoded, "PNG")
            for split in ("val", "test"):
                archive.writestr(f"{split}{i}.png", encoded.getvalue())
                rows.append(f"{split}{i}.png,{split},{77 if i else ''},F,{i / 12},{i % 2 * 6 - 3}")
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    return folder / "data.zip"


def test_the_whole_program(
    portrait: Path,
    tiny_weights: Weights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [write_data(portrait, tmp_path), "--weights", tiny_weights.folder, "--methods", "ganspace"]
    arguments += ["--attributes", "pc1", "--strengths", "-2", "2", "--limit", "3"]
    outputs = [tmp_path / "report.json", tmp_path / "grid.png"]
    codes = tmp_path / "codes"
    words = [*arguments, "--json", outputs[0], "--grid", outputs[1], "--codes", codes]
    words += ["--refine", "optimize:2", "pti:3"]
    monkeypatch.setattr(sys, "argv", ["editing", *map(str, words)])
    main()
    first = outputs[0].read_text()
    written = {path.name: path.stat().st_mtime_ns for path in codes.iterdir()}
    main()
    assert outputs[0].read_text() == first
    assert {path.name: path.stat().st_mtime_ns for path in codes.iterdir()} == written, "the codes were not kept"
    assert len([name for name in written if name.endswith("optimize-2.pti-3.safetensors")]) == 3
    fidelity = json.loads(first)["fidelity"]
    monkeypatch.setattr(sys, "argv", ["editing", *map(str, words[:-1])])  # without tuning the faces are less near
    main()
    untuned = json.loads(outputs[0].read_text())["fidelity"]
    assert len(fidelity["lpips"]) == len(fidelity["lpips_512"]) == len(fidelity["distance"]) == 3
    assert np.mean(fidelity["lpips"]) < np.mean(untuned["lpips"])
    report = json.loads(outputs[0].read_text())
    assert report["faces"] == 3
    assert set(report["judges"]["deviations"]) == set(JUDGED)
    assert min(report["judges"]["deviations"].values()) > 0
    assert [(edit["attribute"], edit["strength"]) for edit in report["edits"]] == [("pc1", -2.0), ("pc1", 2.0)]
    assert all(edit["lpips"] > 0 and edit["share"] is None for edit in report["edits"])
    with Image.open(outputs[1]) as grid:
        assert grid.width > 4 * 16
    printed = capsys.readouterr().out
    assert "mean absolute error" in printed
    assert "pc1" in printed


def test_wrong_use_is_one_line(
    portrait: Path,
    tiny_weights: Weights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words = [tmp_path / "no.zip", "--weights", tiny_weights.folder, "--methods", "ganspace"]
    for more, code, message in (
        ((), 2, "nothing to measure: ganspace: has none of age, sex, smile, yaw"),
        (("--attributes", "pc1"), 1, "no training data at"),
    ):
        monkeypatch.setattr(sys, "argv", ["editing", *map(str, words), *more])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == code
        (line,) = capfd.readouterr().err.strip().splitlines()
        assert message in line


def test_picture_grids_have_a_row_for_each_face(
    portrait: Path, tiny_weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, grid = write_data(portrait, tmp_path), tmp_path / "grid.png"
    words = [data, "--weights", tiny_weights.folder, "--out", grid, "--reference", "val1.png"]
    words += ["--faces", "test0.png", "test1.png", "--edits", "ganspace:pc1=0", "ganspace:pc1=+2"]
    monkeypatch.setattr(sys, "argv", ["pictures", *map(str, words)])
    pictures.main()
    cell, gap = 16, 4
    with Image.open(grid) as image:
        sheet = np.asarray(image).astype(int)
    height = (sheet.shape[0] - gap) // 2
    assert sheet.shape[1] == 5 * (cell + gap) + gap

    def picture(row: int, column: int) -> np.ndarray:
        top, left = gap + row * height, gap + column * (cell + gap)
        return sheet[top : top + cell, left : left + cell]

    editor = stkit.load(str(tiny_weights.folder))
    crops = pictures.read_crops(editor, data, ["test0.png", "test1.png", "val1.png"])
    for row in range(2):
        assert np.array_equal(picture(row, 0), np.asarray(to_image(crops[row])))
        assert np.array_equal(picture(row, 2), np.asarray(to_image(crops[2])))
        assert np.array_equal(picture(row, 3), picture(row, 1))  # strength 0
        assert not np.array_equal(picture(row, 4), picture(row, 1))
    monkeypatch.setattr(sys, "argv", ["pictures", *map(str, words), "--no-photos", "--size", "8"])
    pictures.main()
    with Image.open(grid) as image:
        assert image.width == 4 * (8 + gap) + gap
    monkeypatch.setattr(sys, "argv", ["pictures", *map(str, words[:6]), "--faces", "none.png", "--edits", "pc1=1"])
    with pytest.raises(SystemExit) as end:
        pictures.main()
    assert end.value.code == 2
