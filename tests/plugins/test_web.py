"""The page in a real browser: one server, one browser, the small weights."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
pytest.importorskip("gradio", reason="pip install 'stkit[web]'")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `apt-get install chromium` gives it")

STKIT = Path(sys.executable).with_name("stkit")
PHOTO = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
WAIT = 120_000
KNOB = "#edit-knob-interfacegan-smile input[type=range]"


class Server:
    """`stkit web` in a process of its own."""

    def __init__(self, home: Path, *flags: str) -> None:
        environment = {**os.environ, "STKIT_HOME": str(home), "TMPDIR": str(home), "OMP_NUM_THREADS": "1"}
        environment.pop("http_proxy", None)
        self.home = home
        command = [str(STKIT), "web", "--no-open", *flags]
        self.process = subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.out = self.process.stdout
        try:
            self.url = re.findall(r"http://\S+", self.out.readline())[0]
        except Exception:
            self.stop()
            raise

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        try:
            assert self.process.wait(30) == 0
        finally:
            self.process.kill()
            self.process.wait()
            self.out.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("web"), "--port", "7871", "--weights", "faces")
    yield running
    running.stop()
    assert not list(running.home.glob("stkit-web-*")), "temporary files go with the server"


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as player:
        opened = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Visitor:
    """A browser window of somebody's own, at the page."""

    def __init__(self, browser, url: str, width: int = 1300) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)
        self.page.set_default_timeout(WAIT)

    def drop(self, photo: Path, tab: str = "edit") -> None:
        self.page.wait_for_selector(f"#{tab}-upload input[type=file]", state="attached")
        self.page.set_input_files(f"#{tab}-upload input[type=file]", photo)

    def after(self) -> str:
        """What the edited picture is: its data."""
        return str(self.page.locator("#edit-view img").last.get_attribute("src"))

    def settled(self, edits: str) -> None:
        """Wait until the full picture of these edits is there."""
        self.page.wait_for_selector(f"#edit-status:has-text('full resolution of fast: {edits}')")


@pytest.fixture(scope="module")
def editing(browser, server) -> Iterator[Visitor]:
    visitor = Visitor(browser, server.url)
    visitor.drop(PHOTO)
    visitor.page.wait_for_selector(KNOB)
    yield visitor
    visitor.context.close()


def test_a_slider_moves_the_picture_by_keyboard_and_the_download_is_the_command_lines(editing, tmp_path) -> None:
    page = editing.page
    before = editing.after()
    assert before.startswith("data:image/jpeg")
    page.focus(KNOB)
    page.keyboard.press("Home")
    editing.settled("interfacegan:smile=-2")
    assert editing.after() != before
    assert page.locator("#edit-view img").first.get_attribute("src") == before
    with page.expect_download() as photo:
        page.locator("#edit-photo").click()
    with page.expect_download() as latents:
        page.locator("#edit-latents").click()
    page.get_by_text("The same on the command line and in Python").click()
    command = page.locator("#edit-command .cm-content").inner_text()
    assert command == "stkit edit grace_hopper.jpg --weights faces --face 1 --quality fast --edit interfacegan:smile=-2"
    shutil.copy(PHOTO, tmp_path)
    shell = [str(STKIT), *shlex.split(command)[1:]]
    subprocess.run(shell, cwd=tmp_path, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    made = tmp_path / "out" / "grace_hopper" / photo.value.suggested_filename
    assert made.read_bytes() == Path(photo.value.path()).read_bytes()
    codes = Path(latents.value.path()).read_bytes()
    assert b"grace_hopper.jpg" in codes and b"/tmp" not in codes
    lines = page.locator("#edit-python .cm-content").inner_text()
    assert "stkit.EditRequest" in lines and "'interfacegan:smile=-2'" in lines


def test_undo_redo_reset_and_double_click(editing) -> None:
    page = editing.page
    editing.settled("interfacegan:smile=-2")
    page.click("#edit-undo")
    page.wait_for_selector("#edit-status:has-text('Move a slider')")
    assert page.input_value(KNOB) == "0"
    page.click("#edit-redo")
    editing.settled("interfacegan:smile=-2")
    assert page.input_value(KNOB) == "-2"
    page.click("#edit-reset")
    page.wait_for_selector("#edit-status:has-text('Move a slider')")
    page.click("#edit-undo")
    editing.settled("interfacegan:smile=-2")
    page.dblclick(KNOB, position={"x": 5, "y": 5})
    page.wait_for_selector("#edit-status:has-text('Move a slider')")
    assert page.input_value(KNOB) == "0"


def test_edits_chain_in_the_order_they_were_made(editing) -> None:
    page = editing.page
    chain = "interfacegan:yaw=+0.1"
    for name in ("yaw", "age"):
        page.focus(f"#edit-knob-interfacegan-{name} input[type=range]")
        page.keyboard.press("ArrowRight")
        editing.settled(chain)
        chain += ", then interfacegan:age=+0.1"


def test_nothing_leaves_this_computer(editing) -> None:
    hosts = {re.sub(r"^(\w+)://([^/:]+).*", r"\2", url) for url in editing.asked if url.startswith(("http", "ws"))}
    assert hosts == {"127.0.0.1"}


def test_a_bad_file_is_told_in_one_line_and_the_page_goes_on(browser, server, tmp_path) -> None:
    (tmp_path / "broken.jpg").write_bytes(PHOTO.read_bytes()[:3000])
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "<b>wall.png")
    visitor = Visitor(browser, server.url, width=390)
    page = visitor.page
    visitor.drop(tmp_path / "broken.jpg")
    page.wait_for_selector("text=broken.jpg is damaged")
    assert str(server.home) not in page.inner_text("body")
    visitor.drop(tmp_path / "<b>wall.png")
    page.wait_for_selector("text=no face found in")
    visitor.drop(PHOTO)
    page.wait_for_selector(KNOB)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390, "a narrow screen needs no scrolling sideways"
    visitor.context.close()
