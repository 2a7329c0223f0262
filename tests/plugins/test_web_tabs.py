"""The tabs beside the first one, in a real browser with the small weights."""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageOps

pytest.importorskip("playwright.sync_api", reason="pip install playwright")
pytest.importorskip("gradio", reason="pip install 'stkit[web]'")

import stkit
from stkit.cli import main
from tests.browsing import CHROMIUM, KNOB, PHOTO, Server, Visitor, chromium, serving

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `apt-get install chromium` gives it")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("web"), "--port", "7873", "--weights", "faces") as alone:
        yield alone


@pytest.fixture(scope="module")
def visitor(server: Server) -> Iterator[Visitor]:
    with chromium() as browser:
        yield Visitor(browser, server.url)


def changed(visitor: Visitor, image: str, was: str | None) -> str:
    """What `image` shows, once it is no longer what it was."""
    found = "const img = document.querySelector(where); return img && img.src !== was && img.complete && img.width > 0;"
    visitor.page.wait_for_function(f"([where, was]) => {{ {found} }}", arg=[image, was])
    return str(visitor.page.locator(image).get_attribute("src"))


def test_two_photos_are_mixed_and_their_morph_is_taken_home(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.page
    with Image.open(PHOTO) as image:
        ImageOps.mirror(image).save(tmp_path / "mirrored.jpg")
    page.get_by_role("tab", name="Mix and morph").click()
    page.set_input_files("#mix-first input[type=file]", PHOTO)
    page.wait_for_selector("#mix-status:has-text('Now the other photo.')")
    page.click("#mix-morph")
    page.wait_for_selector("text=mixing takes two photos; drop the other one too")
    page.set_input_files("#mix-second input[type=file]", tmp_path / "mirrored.jpg")
    page.wait_for_selector("#mix-status:has-text('Move the slider.')")
    half = changed(visitor, "#mix-view img", None)
    page.focus("#mix-amount input[type=range]")
    page.keyboard.press("End")
    changed(visitor, "#mix-view img", half)
    page.click("#mix-morph")
    page.wait_for_selector("#mix-gif:not([disabled])")
    with page.expect_download() as gif:
        page.locator("#mix-gif").click()
    with Image.open(gif.value.path()) as morph:
        assert (morph.format, getattr(morph, "n_frames", 1), morph.size) == (
            "GIF",
            46,
            (128, 128),
        )  # 24 to the second, and back
        first = morph.convert("RGB").tobytes()
        morph.seek(23)
        assert morph.convert("RGB").tobytes() != first


def test_a_sample_is_chosen_by_a_click_and_edited_as_the_command_lines_do(
    visitor: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visitor.page
    page.get_by_role("tab", name="Samples").click()
    page.fill("#samples-seed input", "5")
    page.click("#samples-draw")
    changed(visitor, "#samples-view img", None)
    box = visitor.box("#samples-view img")
    third_of_four, second_of_three = box["width"] * 0.6, box["height"] * 0.5
    page.locator("#samples-view img").click(position={"x": third_of_four, "y": second_of_three})
    page.wait_for_function("document.querySelector('#samples-kept input').value === '11'")
    page.click("#samples-edit")
    page.wait_for_selector(KNOB)
    assert not page.locator("#edit-closer").is_visible()
    page.click("#edit-faces img")  # which is the only one
    before = visitor.after()
    page.focus(KNOB)
    page.keyboard.press("End")
    visitor.settled("smile +2.1")
    assert "unexpected" not in page.inner_text("body")
    assert visitor.after() != before
    with page.expect_download() as download:
        page.locator("#edit-photo").click()
    page.get_by_text("For the command line and Python").click()
    commands = page.locator("#edit-command .cm-content").inner_text().splitlines()
    python = page.locator("#edit-python .cm-content").inner_text()
    name = "sample-faces-11-trunc0.7.interfacegan-smile+2.1.crop.png"
    assert download.value.suggested_filename == name
    monkeypatch.chdir(tmp_path)
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with contextlib.suppress(SystemExit):
            main()
    made = (tmp_path / name).read_bytes()
    assert made == Path(download.value.path()).read_bytes()
    for path in tmp_path.iterdir():
        path.unlink()
    exec(python, {})
    assert (tmp_path / name).read_bytes() == made


def test_an_archive_comes_back_edited_with_its_report(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.page
    with zipfile.ZipFile(tmp_path / "trip.zip", "w") as archive:
        archive.write(PHOTO, "day one/hopper.jpg")
        archive.writestr("day one/broken.jpg", PHOTO.read_bytes()[:2000])
    page.get_by_role("tab", name="Folder").click()
    page.click("#folder-start")
    page.wait_for_selector("text=there is nothing to work on; drop a ZIP archive of photos")
    page.set_input_files("#folder-upload input[type=file]", tmp_path / "trip.zip")
    page.wait_for_selector("#folder-upload:has-text('trip')")
    page.fill("#folder-edits textarea", "smile=-2")
    page.click("#folder-start")
    page.wait_for_selector("#folder-status:has-text('1 of 2 photos are done.')")
    page.wait_for_selector("#folder-report:has-text('broken.jpg is damaged')")
    with page.expect_download() as download:
        page.locator("#folder-result").click()
    assert download.value.suggested_filename == "trip-edited.zip"
    stkit.run(stkit.EditRequest(tmp_path / "trip.zip", out=tmp_path / "out", weights="faces", edits=["smile=-2"]))
    with zipfile.ZipFile(download.value.path()) as result:
        names = set(result.namelist())
        assert {"report.csv", "report.json"} < names and not [name for name in names if "stkit-web" in name]
        assert b"stkit-web" not in result.read("report.json")
        (photo,) = (name for name in names if name.endswith("hopper.interfacegan-smile-2.jpg"))
        assert result.read(photo) == (tmp_path / "out" / photo).read_bytes()
        with Image.open(io.BytesIO(result.read(photo))) as after, Image.open(PHOTO) as before:
            assert after.size == before.size
