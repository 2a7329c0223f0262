from __future__ import annotations

import base64
import html
import io
import json
import os
import re
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

import numpy as np
import pytest
from PIL import Image

from stkit.errors import OutputError, UsageError
from stkit.jobs.outputs import BEFORE_AFTER_SUFFIX, PAIR_SUFFIX
from stkit.jobs.report import REPORT, Result, Row, add_to_report, read_report, write_report
from stkit.jobs.report_page import write_report_page
from stkit.photo.images import side_by_side

RED, BLUE, GREEN = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "lime"))


def inversion(out: Path, name: str, lpips: float, notes: str = "") -> Row:
    base = out / name / name
    base.parent.mkdir(parents=True, exist_ok=True)
    pictures = {".crop.png": RED, ".reconstruction.png": BLUE, PAIR_SUFFIX: side_by_side([RED, BLUE], ["a", "b"])}
    files = [Path(f"{base}{end}") for end in pictures]
    for path, picture in zip(files, pictures.values(), strict=True):
        picture.save(path)
    description = {"weights": "faces", "settings": {"inverter": "style-transformer"}}
    files.append(Path(f"{base}.json"))
    files[-1].write_text(json.dumps(description))
    metrics = {"mse": 0.1, "lpips": lpips}
    result = Result(tuple(files), metrics)
    return Row(f"photos/{name}", "ok", "", str(base.parent), 1, "HOG", 0.1, lpips, notes=notes, results=(result,))


def edit(out: Path, name: str, crops: list[Image.Image], crop_only: bool) -> Row:
    base = out / name / f"{name}.smile+2"
    base.parent.mkdir(parents=True, exist_ok=True)
    files = [Path(f"{base}{'.crop.png' if crop_only else '.jpg'}"), Path(f"{base}{BEFORE_AFTER_SUFFIX}")]
    crops[-1].save(files[0])
    side_by_side(crops, ["x"] * len(crops)).save(files[1])
    return Row(f"photos/{name}", "ok", results=(Result(tuple(files), {"change": 0.5}),))


def shown(page: str) -> list[tuple[str, list[tuple[int, ...]]]]:
    """Title and the colours in the middle of the pictures of each card."""
    cards = []
    for card in re.findall(r"<article.*?</article>", page, re.DOTALL):
        title = html.unescape(re.sub("<.*?>", "", re.findall(r"<h2>(.*?)</h2>", card)[0]))
        images = [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([^\"]+)", card)]
        middles = [np.asarray(image.convert("RGB"))[image.height // 2, image.width // 4] for image in images]
        cards.append((title, [tuple(round(float(x) / 255) for x in middle) for middle in middles]))
    return cards


def test_the_worst_comes_first_with_both_pictures(tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = [inversion(out, "good", 0.1), inversion(out, "bad <b>&", 0.4, "is reconstructed badly")]
    rows += [Row("photos/lost.jpg", "failed", "no face found"), Row("photos/later.jpg", "not reached")]
    write_report(rows, out / REPORT)
    page = write_report_page(out).read_text(encoding="utf-8")
    pair = [(1, 0, 0), (0, 0, 1)]
    assert shown(page) == [("lost.jpg", []), ("later.jpg", []), ("bad <b>&", pair), ("good", pair)]
    assert "no face found" in page and "is reconstructed badly" in page and "0.4000" in page and "HOG" in page
    assert "weights faces, inverter style-transformer" in page
    (link,) = re.findall(r'<a href="([^"]+)">good', page)
    assert (out / link).is_file()
    (link,) = re.findall(r'<a href="([^"]+)">bad', page)
    assert (out / unquote(link)).is_file()


def test_edits_show_before_and_after(tmp_path: Path) -> None:
    rows = [edit(tmp_path, "photo", [RED.resize((64, 50)), BLUE.resize((64, 50))], False)]
    rows += [edit(tmp_path, "crop", [RED, GREEN, BLUE], True), edit(tmp_path, "code", [RED, BLUE], True)]
    write_report(rows, tmp_path / REPORT)
    assert [pictures for _, pictures in shown(write_report_page(tmp_path).read_text())] == [[(1, 0, 0), (0, 0, 1)]] * 3


def test_a_folder_that_was_moved_has_its_pictures_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    out = tmp_path / "out"
    row = inversion(out, "a", 0.1)
    outside = Path(os.path.relpath(tmp_path / "secret.png", Path.cwd()))
    GREEN.save(tmp_path / "secret.png")
    write_report([row, Row("b", "ok", results=(Result((outside,)),))], out / REPORT)
    moved = out.rename(tmp_path / "moved")
    cards = dict(shown(write_report_page(moved).read_text()))
    assert cards["photos/a"] == [(1, 0, 0), (0, 0, 1)] and cards["b"] == []


def test_what_is_no_report_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give the --out folder"):
        write_report_page(tmp_path)
    for text in ("[]", '{"format": "stkit-report-1", "photos": [{"photo": "a"}]}', "{"):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(UsageError, match="no report.json of stkit"):
            write_report_page(tmp_path)
    write_report([Row("a", "failed", "lost")], tmp_path / REPORT)
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(OutputError, match="move it away"):
        write_report_page(tmp_path)
    assert (tmp_path / "report.html").read_text() == "mine"


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [inversion(tmp_path, "a", 0.25, "noted"), Row("b", "failed", "lost")]
    write_report(rows, tmp_path / REPORT)
    assert read_report(tmp_path / "report.json") == rows


def test_a_report_with_something_else_in_it_is_left_as_it_is(tmp_path: Path) -> None:
    """Numbers that are texts, too large or lone surrogates: a later edit does not fall over them."""
    row = {"photo": "x.jpg", "status": "ok", **dict.fromkeys(("reason", "folder", "detector", "sha256", "notes"), "")}
    for change in ({"mse": "x"}, {"mse": 10**400}, {"subjects_found": 1e400}, {"photo": 3, "results": 3}):
        data = {**row, "mse": None, "lpips": None, "subjects_found": None, **change}
        (tmp_path / "report.json").write_text(json.dumps({"format": "stkit-report-1", "photos": [data]}))
        (tmp_path / "report.csv").write_text("mine")
        add_to_report([Row("y.jpg", "ok")], tmp_path / "report.csv")
        assert (tmp_path / "report.csv").read_text() == "mine"
    (tmp_path / "report.json").write_text(
        json.dumps({"format": "stkit-report-1", "photos": [{**row, "photo": "\ud800"}]})
    )
    add_to_report([Row("y.jpg", "ok")], tmp_path / "report.csv")
    assert [one.photo for one in read_report(tmp_path / "report.json") or []] == ["\\ud800", "y.jpg"]


def test_names_that_are_no_utf8_have_their_pictures(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    try:
        write_report([inversion(tmp_path, name, 0.2), edit(tmp_path, name, [RED, GREEN], True)], tmp_path / REPORT)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    page = write_report_page(tmp_path).read_text("utf-8")
    assert [len(pictures) for _, pictures in shown(page)] == [2, 2]
    links = re.findall(r'<a[^>]* href="([^"]+)"', page)
    assert links and all((tmp_path / os.fsdecode(unquote_to_bytes(link))).is_file() for link in links)
