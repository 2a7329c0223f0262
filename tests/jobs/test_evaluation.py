"""`stkit evaluate`: a tiny report against what is computed here, going on after a stop, what is said at the start."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stkit.contracts.framing import AlignmentTemplate
from stkit.contracts.metrics import Metric
from stkit.contracts.scoring import Scorer
from stkit.contracts.training import Voice
from stkit.editor.editor import Editor, load
from stkit.errors import OutputError, StkitError, UsageError
from stkit.jobs.evaluation import plan as planning
from stkit.jobs.evaluation import report
from stkit.jobs.evaluation.costs import measure_costs
from stkit.jobs.evaluation.photos import find_photos
from stkit.jobs.evaluation.run import evaluate
from stkit.jobs.request import EvaluateRequest
from stkit.models.psp_encoders import load_psp_encoder
from stkit.options import Options
from stkit.photo.images import to_image
from stkit.plugins import load_plugins
from stkit.testing import make_tiny_weights
from stkit.weights import find_weights

COUNT = 10


class Brightness(Scorer[Options]):
    name = "photometer"
    description = "how bright and how red images are"

    def score(self, images: torch.Tensor, options: Options) -> dict[str, np.ndarray]:
        means = images.double().mean((2, 3)).numpy()
        return {"eig1": means.mean(1), "redness": means[:, 0] - means[:, 1]}


class Broken(Metric[Options]):
    name = "broken"
    description = "fails"
    higher_is_better = False

    def compute(self, images: torch.Tensor, references: torch.Tensor, options: Options) -> dict[str, float]:
        raise ZeroDivisionError("oh")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "photos"
    folder.mkdir()
    coarse = torch.rand(COUNT + 2, 3, 2, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images = torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")
    for i, image in enumerate(images):
        to_image(image).save(folder / f"{i:02}.png")
    rows = [f"{i:02}.png,{'test' if i < COUNT else 'train'}" for i in range(len(images))]
    folder.with_suffix(".csv").write_text("\n".join(["file,split", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "tiny & small"
    make_tiny_weights(folder, "plain", alignment=AlignmentTemplate("box"))
    return folder


@pytest.fixture(autouse=True)
def photometer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(load_plugins().scorers, "photometer", Brightness())


@pytest.fixture
def request_(photos: Path, weights: Path, tmp_path: Path) -> EvaluateRequest:
    return EvaluateRequest(photos, tmp_path / "report", weights=[str(weights)], metrics="mse,swd", costs=False)


def test_the_report(request_: EvaluateRequest, weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for kind in ("generator", "inverter"):
        shutil.copy(weights / f"{kind}.safetensors", copy)
    asked = dataclasses.replace(
        request_, weights=f"{weights},{copy}", inverters="style-transformer,psp", edits="sefa:eig1=4"
    )
    said: list[str] = []
    figures = evaluate(asked, Voice(said.append))
    first, other, third = figures["systems"]
    assert [first["name"], other["name"]] == ["tiny & small/style-transformer", "tiny & small/psp"]
    assert third["name"] == "copy/style-transformer" and third["means"] == first["means"]
    assert any("copy/psp is left out: weights 'copy' have no psp inverter" in line for line in said)
    assert figures["split"] == "test" and figures["photos"] == COUNT

    editor = load(find_weights(str(weights)))
    crops = torch.cat([_crop(request_.data / f"{i:02}.png") for i in range(COUNT)])
    latents = {name: editor.invert_crops(crops, name) for name in ("style-transformer", "psp")}
    made = {name: _stored(editor.generate(codes)) for name, codes in latents.items()}
    errors = {name: (_wide(images) - _wide(crops)).square().mean((1, 2, 3)) for name, images in made.items()}
    assert first["means"]["mse"]["mean"] == pytest.approx(errors["style-transformer"].mean().item(), rel=1e-3)
    assert other["means"]["mse"]["mean"] == pytest.approx(errors["psp"].mean().item(), rel=1e-3)
    assert first["means"]["mse"]["low"] < first["means"]["mse"]["mean"] < first["means"]["mse"]["high"]
    difference = (errors["psp"] - errors["style-transformer"]).mean().item()
    assert other["against_first"]["mse"]["mean"] == pytest.approx(difference, rel=1e-2)
    assert first["sets"]["swd"] > 0 and not first["against_first"]

    assert [edit["strength"] for edit in first["edits"]] == [-4, -2, 2, 4]
    assert [bool(edit["sets"]) for edit in first["edits"]] == [True, False, False, True]
    step = editor.parse_step("sefa:eig1=4")
    edited = _stored(editor.generate(editor.apply(latents["style-transformer"], [step])))
    before, after = (Brightness().score(images, Options()) for images in (made["style-transformer"], edited))
    changes = {name: (after[name] - before[name]) / before[name].std() for name in before}
    judged = first["edits"][-1]["judged"]
    assert judged["photometer:eig1"]["shift"]["mean"] == pytest.approx(changes["eig1"].mean(), abs=1e-3)
    assert first["edits"][-1]["dependency"] == pytest.approx(np.abs(changes["redness"]).mean(), abs=1e-3)

    out = request_.out
    assert json.loads((out / "report.json").read_text()) == figures
    rows = list(csv.DictReader((out / "photos.csv").read_text().splitlines()))
    assert sum(row["number"] == "mse" and row["picture"] == "reconstruction" for row in rows) == 3 * COUNT
    assert any(row["picture"] == "sefa-eig1+4" and row["number"] == "photometer:redness" for row in rows)
    page = (out / "report.html").read_text()
    assert "tiny &amp; small/psp" in page and "tiny & small" not in page
    assert page.count("<img ") == 4 and "Response: strength of eig1" in page
    for name in ("random.jpg", "worst.jpg", "response-1.png", "tradeoff.png"):
        assert (out / name).stat().st_size > 1000
    assert "## Difference from tiny & small/style-transformer" in (out / "report.md").read_text()


def test_costs(request_: EvaluateRequest) -> None:
    asked = dataclasses.replace(request_, inverters=["e4e"], metrics=["mse"], limit=1)
    (system,) = planning.make_plan(asked).systems
    found = measure_costs([system], planning.make_plan(asked).photos)
    encoder = load_psp_encoder(system.editor.weights, "e4e")
    assert found["tiny & small/e4e"].keys() == {"parameters", "gmacs", "ms", "peak_mb"}
    assert found["tiny & small/e4e"]["parameters"] == sum(value.numel() for value in encoder.state_dict().values())
    assert 0 < found["tiny & small/e4e"]["gmacs"] < 0.01 and 0 < found["tiny & small/e4e"]["ms"] < 5000
    assert 1 < found["tiny & small/e4e"]["peak_mb"] < 2000


def _crop(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        pixels = np.array(image.resize((16, 16), Image.Resampling.LANCZOS))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1


def _stored(images: torch.Tensor) -> torch.Tensor:
    return images.clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1)


def _wide(images: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.interpolate(images, size=256, mode="bilinear")


def test_it_goes_on_where_it_was_stopped(
    request_: EvaluateRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_ = dataclasses.replace(request_, inverters=["style-transformer"], edits=["sefa:eig1=4"])
    whole = evaluate(dataclasses.replace(request_, out=tmp_path / "whole"))
    inverted: list[int] = []
    invert, apply = Editor.invert_crops, Editor.apply

    def counted(editor: Editor, pixels: torch.Tensor, *rest: Any) -> Any:
        inverted.append(len(pixels))
        if len(inverted) == 3:  # the try, the first eight, and then
            raise KeyboardInterrupt
        return invert(editor, pixels, *rest)

    def broken(editor: Editor, latents: Any, steps: Any, *rest: Any) -> Any:
        if len(list((request_.out / "work").rglob("sefa*/*.png"))) == 5:
            raise KeyboardInterrupt
        return apply(editor, latents, steps, *rest)

    monkeypatch.setattr(Editor, "invert_crops", counted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(request_)
    monkeypatch.setattr(Editor, "apply", broken)
    with pytest.raises(KeyboardInterrupt):
        evaluate(request_)
    assert inverted == [1, 8, 2, 1, 2]
    monkeypatch.setattr(Editor, "apply", apply)
    (values,) = request_.out.rglob("values.jsonl")
    values.write_text(values.read_text()[:-20])  # killed within a line
    assert evaluate(request_)["systems"] == whole["systems"]
    assert inverted == [1, 8, 2, 1, 2, 1]
    more = evaluate(dataclasses.replace(request_, metrics=["mse", "swd", "psnr"]))
    assert inverted[6:] == [1] and more["systems"][0]["means"]["psnr"]["count"] == COUNT


def test_a_photo_that_fails_is_left_out_and_tried_again(
    request_: EvaluateRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = dataclasses.replace(request_, inverters=["psp"])
    invert = Editor.invert_crops

    def failing(editor: Editor, pixels: torch.Tensor, *rest: Any) -> Any:
        if len(pixels) > 1 or torch.equal(pixels[0], _crop(request_.data / "03.png")[0]):
            raise ZeroDivisionError("oh")
        return invert(editor, pixels, *rest)

    monkeypatch.setattr(Editor, "invert_crops", failing)
    figures = evaluate(asked)
    assert figures["notes"][-1] == "tiny & small/psp: 03.png could not be inverted: oh"
    assert figures["systems"][0]["means"]["mse"]["count"] == COUNT - 1 and figures["systems"][0]["sets"]["swd"] > 0
    monkeypatch.setattr(Editor, "invert_crops", invert)
    figures = evaluate(asked)
    assert figures["systems"][0]["means"]["mse"]["count"] == COUNT and len(figures["notes"]) == 1


def test_results_of_another_model_are_not_mixed_in(request_: EvaluateRequest, weights: Path, tmp_path: Path) -> None:
    asked = dataclasses.replace(request_, inverters=["psp"], metrics=["mse"], limit=2)
    evaluate(asked)
    other = tmp_path / weights.name
    make_tiny_weights(other, "plain", seed=1, alignment=AlignmentTemplate("box"))
    with pytest.raises(UsageError, match="holds results of another generator .* choose another --out"):
        evaluate(dataclasses.replace(asked, weights=[str(other)]))
    (request_.out / "stkit.lock").touch()
    with pytest.raises(UsageError, match="an inverter is named twice"):
        evaluate(dataclasses.replace(asked, inverters=["psp", "psp"]))


def test_all_that_is_wrong_is_said_at_the_start(
    request_: EvaluateRequest, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(load_plugins().metrics, "broken", Broken())
    asked = dataclasses.replace(
        request_,
        weights=[str(weights), "nobody", "faces"],
        inverters=["psp", "optimise", "e4e:3", "psp+e4e", "psp+optimize:0"],
        metrics=["mse", "broken", "identity", "fidd"],
        edits=["sefa:eig1=1", "smile=2", "sefa:eig1=0"],
        split="holdout",
    )
    found = planning.make_plan(asked)
    notes = "\n".join(found.notes)
    for said in (
        "no weights named 'nobody'",
        "weights 'faces' are for faces, the first for plain: left out",
        "has no rows of the split 'holdout'",
        "all photos are measured, those of the training too",
        "12 photos say little",
        "tiny & small/optimise is left out: no inverter named 'optimise': did you mean optimize",
        "tiny & small/e4e:3 is left out: unknown option 'steps'",
        "tiny & small/psp+e4e is left out: inverter 'e4e' cannot refine codes; those that can: optimize",
        "tiny & small/psp+optimize:0 is left out: --refine 'optimize:0' is not like optimize",
        "metric broken is left out: it raised ZeroDivisionError: oh",
        "metric identity is left out: it is for faces, and these photos show plain",
        "metric fidd is left out: no metric named 'fidd'",
        "edit smile=2 of tiny & small is left out: no method has an attribute 'smile'",
        "edit sefa:eig1=0 of tiny & small is left out: --edit 'sefa:eig1=0' changes nothing",
    ):
        assert said in notes
    assert [system.label for system in found.systems] == ["tiny & small/psp"] and found.photos.split == "all"
    assert [metric.name for metric in found.metrics] == ["mse"] and len(found.edits_of(found.systems[0])) == 4


def test_what_an_inverter_gives_can_be_refined(request_: EvaluateRequest, weights: Path) -> None:
    inverters = ["psp", "psp+optimize:8+pti:2", "balanced"]
    asked = dataclasses.replace(request_, inverters=inverters, metrics=["mse"], limit=2, edits=["sefa:eig1=1"])
    _, chain, balanced = planning.make_plan(asked).systems
    own = chain.editor.weights.own_inverter()
    assert (chain.inverter, chain.refine) == ("psp", ("optimize:8", "pti:2"))
    assert (balanced.inverter, balanced.refine) == (own, ("optimize:100",))
    evaluate(dataclasses.replace(asked, inverters=inverters[:2]))
    plain, refined = json.loads((request_.out / "report.json").read_text())["systems"]
    assert refined["means"]["mse"]["mean"] < plain["means"]["mse"]["mean"]
    assert refined["refine"] == ["optimize:8", "pti:2"] and refined["edits"]


def test_names_in_tables_steer_no_terminal() -> None:
    assert report._csv(["photo"], [["a\x1b[2J,\u202eb"]]) == 'photo\n"a\\x1b[2J,\\u202eb"\n'


def test_nothing_left_is_an_error(request_: EvaluateRequest, tmp_path: Path) -> None:
    for changes, says in (
        ({"weights": ["nobody"]}, "no weights named 'nobody'"),
        ({"inverters": ["nothing"]}, "no inverter is left to measure"),
        ({"metrics": ["nothing"]}, "no metric is left"),
        ({"data": tmp_path / "none"}, "no training data at"),
        ({"labels": tmp_path / "none.csv"}, "cannot read labels"),
        ({"options": {"steps": 3}}, "option 'steps' is not like optimize.steps"),
        ({"options": {"pti.steps": 3}}, "options of 'pti', which is none of what is measured"),
    ):
        with pytest.raises(StkitError, match=says):
            planning.make_plan(dataclasses.replace(request_, **changes))
    request_.out.write_text("")
    with pytest.raises(OutputError, match="cannot write to"):
        evaluate(request_)


def test_unaligned_photos_are_told(portrait: Path, tmp_path: Path) -> None:
    with Image.open(portrait) as image:
        (tmp_path / "photos").mkdir()
        image.convert("RGB").crop((0, 0, 512, 512)).save(tmp_path / "photos" / "a.png")
    editor = load(find_weights("faces"))
    notes: list[str] = []
    found = find_photos(EvaluateRequest(tmp_path / "photos"), editor.domain, editor.weights.alignment, notes)
    assert len(found) == 1 and found.split == "all"
    assert any("the photos look unaligned: in 1 of 1 the face is not where these weights have it" in n for n in notes)
