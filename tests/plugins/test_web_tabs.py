"""The tabs beside the first one, in a real browser with the small weights."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageOps

pytest.importorskip("playwright.sync_api", reason="pip install playwright")
pytest.importorskip("gradio", reason="pip install 'stkit[web]'")

from browsing import CHROMIUM, KNOB, PHOTO, Server, Visitor, chromium, serving

import stkit

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
    found = "([where, was]) => { const img = document.querySelector(where); return img && img.src !== was; }"
    visitor.page.wait_for_function(found, arg=[image, was])
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
        assert (morph.format, morph.n_frames, morph.size) == ("GIF", 24, (128, 128))
        first = morph.convert("RGB").tobytes()
        morph.seek(23)
        assert morph.convert("RGB").tobytes() != first


def test_a_sample_is_chosen_by_a_click_and_edited(visitor: Visitor) -> None:
    page = visitor.page
    page.get_by_role("tab", name="Samples").click()
    page.fill("#samples-seed input", "5")
    page.click("#samples-draw")
    changed(visitor, "#samples-view img", None)
    box = page.locator("#samples-view img").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5)  # third of four, second of three
    page.wait_for_function("document.querySelector('#samples-kept input').value === '11'")
    page.click("#samples-edit")
    page.wait_for_selector(KNOB)
    page.focus(KNOB)
    page.keyboard.press("End")
    visitor.settled("smile +2.1")
    with page.expect_download() as download:
        page.locator("#edit-photo").click()
    editor = stkit.load("faces")
    own = editor.edit(editor.sample([11], 0.7), method="interfacegan", attribute="smile", strength=2.1)
    with Image.open(download.value.path()) as picture:
        assert picture.convert("RGB").tobytes() == own.image.convert("RGB").tobytes()


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
    assert "broken.jpg is damaged" in page.inner_text("#folder-report")
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
