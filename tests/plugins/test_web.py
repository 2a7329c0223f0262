"""The page in a real browser: one server, one browser, the small weights."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import matplotlib
import pytest
from PIL import Image, ImageOps

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
gradio_client = pytest.importorskip("gradio_client", reason="pip install 'stkit[web]'")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `apt-get install chromium` gives it")

STKIT = Path(sys.executable).with_name("stkit")
PHOTO = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
WAIT = 60_000
CHANGED = "old => [...document.querySelectorAll('#edit-view img')].at(-1).src !== old"
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

    @functools.cached_property
    def url(self) -> str:
        """Where the page is, once it is there."""
        return str(re.findall(r"http://\S+", self.out.readline())[0])

    def stop(self, how: signal.Signals) -> None:
        """End it; what it wrote is gone then."""
        self.process.send_signal(how)
        try:
            assert self.process.wait(30) == 0
            assert not list(self.home.glob("stkit-web-*"))
        finally:
            self.process.kill()
            self.process.wait()
            self.out.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """One for this computer alone and one for others, which start beside each other."""
    alone = Server(tmp_path_factory.mktemp("web"), "--port", "7871", "--weights", "faces")
    guarded = Server(tmp_path_factory.mktemp("web"), "--port", "7872", "--weights", "faces", "--host", "0.0.0.0")
    try:
        assert alone.url and guarded.url
        yield alone, guarded
    finally:
        alone.stop(signal.SIGINT)
        guarded.stop(signal.SIGTERM)


@pytest.fixture(scope="module")
def server(servers) -> Server:
    return servers[0]


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


def test_a_face_is_picked_by_a_click_and_all_of_them_by_name(browser, server, tmp_path) -> None:
    with Image.open(PHOTO) as image:
        two = Image.new("RGB", (512, 303))
        two.paste(image.resize((256, 303)), (0, 0))
        two.paste(ImageOps.mirror(image.resize((220, 260))), (256, 0))
    two.save(tmp_path / "two.png")
    visitor = Visitor(browser, server.url)
    page = visitor.page
    visitor.drop(tmp_path / "two.png")
    page.wait_for_selector(KNOB)
    box = page.locator("#edit-faces img").bounding_box()
    for x, number in ((110, "2"), (366, "1")):  # the one that is surest is the first
        shown = visitor.after()
        page.mouse.click(box["x"] + x * box["width"] / 512, box["y"] + 100 * box["height"] / 303)
        page.wait_for_selector(f"#edit-which input[value='{number}']:checked", state="attached")
        page.wait_for_function(CHANGED, arg=shown)
    shown = visitor.after()
    page.get_by_label("all 2").check()
    page.wait_for_function(CHANGED, arg=shown)
    page.focus(KNOB)
    page.keyboard.press("ArrowRight")
    visitor.settled("interfacegan:smile=+0.1")
    page.get_by_text("The same on the command line and in Python").click()
    assert "--face all" in page.locator("#edit-command .cm-content").inner_text()
    visitor.context.close()


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


def test_two_people_do_not_see_each_others_photos_and_files(browser, server, editing, tmp_path) -> None:
    other = Visitor(browser, server.url)
    other.drop(PHOTO)
    other.page.wait_for_selector(KNOB)
    assert other.page.input_value("#edit-knob-interfacegan-yaw input[type=range]") == "0"
    assert editing.page.input_value("#edit-knob-interfacegan-yaw input[type=range]") == "0.1"
    with editing.page.expect_download() as photo:
        editing.page.locator("#edit-photo").click()
    url = photo.value.url
    assert editing.context.request.get(url).status == 200
    assert other.context.request.get(url).status == 403
    assert other.context.request.get(f"{server.url}gradio_api/file=/etc/hostname").status == 403
    assert other.context.request.get(f"{server.url}gradio_api/file=http://127.0.0.1/").status == 403
    path = Path(unquote(url.split("file=")[1]))
    assert path.is_file()
    editing.page.close()
    for _ in range(100):
        if not path.exists():
            break
        other.page.wait_for_timeout(200)
    assert not path.exists(), "the files go when the window is closed"
    other.context.close()


def test_a_program_edits_and_is_told_what_is_wrong(server, tmp_path) -> None:
    client = gradio_client.Client(server.url, verbose=False, download_files=tmp_path)
    assert client.predict("faces", api_name="/sliders")["interfacegan"]["interfacegan:smile"] == [-2.0, 2.1]
    photo = gradio_client.handle_file(PHOTO)
    with pytest.raises(Exception, match="there is no face 7 in grace_hopper.jpg: found 1"):
        client.predict(photo, ["smile=1"], "faces", "7", "fast", api_name="/edit")
    made = client.predict(photo, ["smile=1"], "faces", "1", "fast", api_name="/edit")
    with Image.open(made) as after, Image.open(PHOTO) as before:
        assert after.size == before.size
    client.close()


def test_other_hosts_and_other_pages_are_refused(browser, server) -> None:
    request = browser.new_context().request
    assert request.get(server.url, headers={"Host": "evil.example:7871"}).status == 403
    origin = {"Origin": "http://evil.example"}
    assert request.post(f"{server.url}gradio_api/queue/join", headers=origin, data="{}").status == 403


def test_a_host_of_ones_own_needs_the_token(browser, servers) -> None:
    place, token = servers[1].url.split("?token=")
    assert place
    request = browser.new_context().request
    assert request.get("http://127.0.0.1:7872/").status == 401
    assert request.get("http://127.0.0.1:7872/?token=guess").status == 401
    assert request.get("http://127.0.0.1:7872/gradio_api/info").status == 401
    bearer = {"Authorization": f"Bearer {token}"}
    assert request.get("http://127.0.0.1:7872/gradio_api/info", headers=bearer).status == 200
    assert request.get(f"http://127.0.0.1:7872/?token={token}").status == 200
    assert request.get("http://127.0.0.1:7872/gradio_api/info").status == 200
