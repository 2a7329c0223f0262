"""The page in a real browser: one server, one browser, the small weights."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image, ImageOps

pytest.importorskip("playwright.sync_api", reason="pip install playwright")
gradio = pytest.importorskip("gradio", reason="pip install 'stkit[web]'")
gradio_client = pytest.importorskip("gradio_client", reason="pip install 'stkit[web]'")

from starlette.testclient import TestClient  # noqa: E402  # comes with Gradio
from stkit_web.desk import SEATS, Desk  # noqa: E402
from stkit_web.elsewhere import command  # noqa: E402
from stkit_web.errors import as_told, told  # noqa: E402
from stkit_web.guard import OWNER, Guard, Owners  # noqa: E402
from stkit_web.server import entry  # noqa: E402
from stkit_web.work import Work  # noqa: E402

from stkit.cli import main  # noqa: E402
from stkit.errors import PhotoError, UsageError  # noqa: E402
from tests.browsing import CHROMIUM, KNOB, PHOTO, Server, Visitor, chromium, serving  # noqa: E402

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `apt-get install chromium` gives it")

CHANGED = "old => [...document.querySelectorAll('#edit-view img')].at(-1).src !== old"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("web"), "--port", "7871", "--weights", "faces") as alone:
        yield alone


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def editing(browser, server) -> Iterator[Visitor]:
    visitor = Visitor(browser, server.url)
    visitor.drop(PHOTO)
    visitor.page.wait_for_selector(KNOB)
    yield visitor
    visitor.context.close()


@pytest.fixture(scope="module")
def other(browser, server) -> Iterator[Visitor]:
    """Somebody else, at a narrow screen."""
    visitor = Visitor(browser, server.url, width=390)
    yield visitor
    visitor.context.close()


def test_a_slider_moves_the_picture_by_keyboard_and_the_download_is_the_command_lines(
    editing, tmp_path, monkeypatch
) -> None:
    page = editing.page
    before = editing.after()
    assert before.startswith("data:image/jpeg")
    page.focus(KNOB)
    page.keyboard.press("Home")
    editing.settled("smile -2")
    assert editing.after() != before
    assert page.locator("#edit-view img").first.get_attribute("src") == before
    with page.expect_download() as photo:
        page.locator("#edit-photo").click()
    page.get_by_text("For the command line and Python").click()
    with page.expect_download() as latents:
        page.locator("#edit-latents").click()
    command = page.locator("#edit-command .cm-content").inner_text()
    assert command == "stkit edit grace_hopper.jpg --weights faces --face 1 --quality fast --edit interfacegan:smile=-2"
    shutil.copy(PHOTO, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with contextlib.suppress(SystemExit):
        main()
    made = tmp_path / "out" / "grace_hopper" / photo.value.suggested_filename
    assert made.read_bytes() == Path(photo.value.path()).read_bytes()
    codes = Path(latents.value.path()).read_bytes()
    assert b"grace_hopper.jpg" in codes and b"/tmp" not in codes
    lines = page.locator("#edit-python .cm-content").inner_text()
    assert "stkit.EditRequest" in lines and "'interfacegan:smile=-2'" in lines


def test_undo_redo_reset_and_double_click(editing) -> None:
    page = editing.page
    editing.settled("smile -2")
    page.click("#edit-undo")
    page.wait_for_selector("#edit-status:has-text('Move a slider')")
    assert page.input_value(KNOB) == "0"
    page.click("#edit-redo")
    editing.settled("smile -2")
    assert page.input_value(KNOB) == "-2"
    page.click("#edit-reset")
    page.wait_for_selector("#edit-status:has-text('Move a slider')")
    page.click("#edit-undo")
    editing.settled("smile -2")
    page.dblclick(KNOB, position={"x": 5, "y": 5})
    page.wait_for_selector("#edit-status:has-text('Move a slider')")
    assert page.input_value(KNOB) == "0"


def test_edits_chain_in_the_order_they_were_made(editing) -> None:
    page = editing.page
    chain = "yaw +0.1"
    for name in ("yaw", "age"):
        page.focus(f"#edit-knob-interfacegan-{name} input[type=range]")
        page.keyboard.press("ArrowRight")
        editing.settled(chain)
        chain += ", then age +0.1"


def test_of_quick_moves_only_the_last_is_computed(editing) -> None:
    page = editing.page
    held, asked = [], []
    page.on("request", lambda request: asked.append(request.url) if "/run/predict" in request.url else None)
    page.route("**/run/predict*", lambda route: held.append(route), times=1)
    page.focus("#edit-knob-interfacegan-yaw input[type=range]")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(200)
    held.pop().continue_()
    editing.settled("yaw +0.7, then age +0.1")
    assert len(asked) == 2
    for _ in range(2):  # a click while the one before is under way counts too
        page.click("#edit-undo")
    editing.settled("yaw +0.1")
    page.click("#edit-redo")
    editing.settled("yaw +0.1, then age +0.1")


def test_a_slider_that_takes_from_another_photo_waits_for_it(editing) -> None:
    page = editing.page
    page.get_by_text("Like in another photo (reference)").click()
    slider = page.locator("[id^=edit-knob-reference-] input[type=range]").first
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#edit-status:has-text('waits for another photo to take from')")
    assert slider.input_value() == "0"
    page.get_by_text("Another photo to take from", exact=True).click()
    page.set_input_files("#edit-reference input[type=file]", PHOTO)
    page.wait_for_selector("#edit-reference-note:has-text('Taking from grace_hopper.jpg')")
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#edit-status:has-text('Full picture: yaw +0.1, then age +0.1, then')")
    page.get_by_text("For the command line and Python").click()
    assert page.locator("#edit-command .cm-content").inner_text().endswith("=+0.1 --ref grace_hopper.jpg")
    page.click("#edit-undo")
    editing.settled("yaw +0.1, then age +0.1")


def test_the_browser_does_not_copy_all_sliders_when_one_moves(editing) -> None:
    """What it copies is for Gradio's signs of progress; copying all takes longer than the picture."""
    page = editing.page
    page.evaluate(
        "() => { const copy = structuredClone; window.copies = 0;"
        " window.structuredClone = (...given) => { window.copies += 1; return copy(...given); }; }"
    )
    page.focus(KNOB)
    page.keyboard.press("End")
    page.wait_for_selector("#edit-status:has-text('Full picture'):has-text('smile +2')")
    sliders = page.locator(".stkit-knob input[type=range]").count()
    assert sliders > 20
    assert 0 < page.evaluate("() => window.copies") < 100 * sliders  # each of them once at each step: 300 times


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
    box = visitor.box("#edit-faces img")
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
    visitor.settled("smile +0.1")
    page.get_by_text("For the command line and Python").click()
    assert "--face all" in page.locator("#edit-command .cm-content").inner_text()
    visitor.context.close()


def test_a_bad_file_is_told_in_one_line_and_the_page_goes_on(other, server, tmp_path) -> None:
    (tmp_path / "broken.jpg").write_bytes(PHOTO.read_bytes()[:3000])
    (tmp_path / "<b>notes.png").write_text("no picture")
    page = other.page
    other.drop(tmp_path / "broken.jpg")
    page.wait_for_selector("text=broken.jpg is damaged")
    assert str(server.home) not in page.inner_text("body")
    other.drop(tmp_path / "<b>notes.png")
    page.wait_for_selector("text=notes.png is not an image")
    (tmp_path / "empty.jpg").touch()
    held: list[Any] = []
    page.route("**/queue/join*", lambda route: held.append(route), times=1)
    with page.expect_request("**/queue/join*"):
        other.drop(tmp_path / "empty.jpg")
    with page.expect_response("**/upload*"):
        other.drop(PHOTO)  # while the one before is still under way
    page.wait_for_timeout(500)
    held.pop().continue_()
    page.wait_for_selector("text=empty.jpg is empty")
    page.wait_for_selector(KNOB)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390, "a narrow screen needs no scrolling sideways"
    page.locator(KNOB).scroll_into_view_if_needed()
    top = page.locator("#edit-view").bounding_box()["y"]
    assert 0 <= top < 300, "the picture stays in sight above the sliders"


def test_it_comes_closer_in_the_background_and_can_be_cancelled(other) -> None:
    page = other.page
    page.locator(KNOB).focus()
    page.keyboard.press("End")
    other.settled("smile +2.1")
    fast, likeness = other.after(), page.locator("#edit-likeness img").get_attribute("src")
    page.click("#edit-closer")
    page.wait_for_selector("#edit-progress:has-text('balanced: ')")
    page.wait_for_function("old => document.querySelector('#edit-likeness img').src !== old", arg=likeness)
    page.wait_for_selector("#edit-status:has-text('Preview, balanced so far: smile +2.1')")
    assert other.after() != fast, "the preview improves meanwhile"
    page.click("#edit-cancel")
    page.wait_for_selector("#edit-progress:has-text('Cancelled; nothing has changed.')")
    assert other.after() == fast
    assert page.locator("#edit-likeness img").get_attribute("src") == likeness


def test_two_people_do_not_see_each_others_photos_and_files(other, server, editing) -> None:
    assert other.page.input_value("#edit-knob-interfacegan-yaw input[type=range]") == "0"
    assert editing.page.input_value("#edit-knob-interfacegan-yaw input[type=range]") == "0.1"
    with editing.page.expect_download() as photo:
        editing.page.locator("#edit-photo").click()
    url = photo.value.url
    assert editing.context.request.get(url).status == 200
    assert other.context.request.get(url).status == 403
    assert other.context.request.get(f"{server.url}gradio_api/file=/etc/hostname").status == 403
    assert other.context.request.get(f"{server.url}gradio_api/file=http://127.0.0.1/").status == 403
    assert "/file=/stkit-files/" in url and str(server.home) not in url, "no path of the server is shown"
    path = next(server.home.glob("stkit-web-*/files")) / unquote(url.split("file=/stkit-files/")[1])
    assert path.is_file()
    assert editing.context.request.get(f"{server.url}gradio_api/file={path}").status == 403, "no other name for it"
    editing.page.close()
    for _ in range(100):
        if not path.exists():
            break
        other.page.wait_for_timeout(200)
    assert not path.exists(), "the files go when the window is closed"


def test_a_photo_is_pasted_and_another_one_shot(browser, server) -> None:
    visitor = Visitor(browser, server.url)
    page = visitor.page
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write", "camera"])
    page.wait_for_selector("#edit-upload input[type=file]", state="attached")
    with Image.open(PHOTO) as image:
        image.save(encoded := io.BytesIO(), "PNG")
    page.evaluate(
        """async code => {
            const bytes = Uint8Array.from(atob(code), one => one.charCodeAt(0));
            const blob = new Blob([bytes], {type: "image/png"});
            await navigator.clipboard.write([new ClipboardItem({"image/png": blob})]);
        }""",
        base64.b64encode(encoded.getvalue()).decode(),
    )
    held = []  # Gradio says first that there is no photo: what comes while that is under way must not be lost
    page.route("**/queue/join*", lambda route: held.append(route), times=1)
    with page.expect_response("**/file=/stkit-files/**"):
        page.click("#edit-upload [aria-label='Paste from clipboard']")
    held.pop().continue_()
    page.wait_for_selector(KNOB)
    page.click("#edit-another")
    page.click("#edit-upload [aria-label='Capture from camera']")
    page.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#edit-upload video')?.videoWidth > 0")
    page.route("**/queue/join*", lambda route: route.abort())  # it would be searched for a face, with all detectors
    with page.expect_response("**/file=/stkit-files/**") as shot:
        page.click("#edit-upload [aria-label='capture photo']")
    assert shot.value.status == 200
    visitor.context.close()


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


@pytest.mark.parametrize(("host", "auth"), [("127.0.0.1", None), ("0.0.0.0", None), ("0.0.0.0", ("me", "secret"))])
def test_other_computers_need_a_token_or_a_password(host, auth) -> None:
    token, names = entry(host, auth)
    assert (token is None) == (host == "127.0.0.1" or auth is not None)
    assert (names is None) == (host == "0.0.0.0")


@pytest.mark.slow
def test_a_host_of_ones_own_needs_the_token(browser, tmp_path) -> None:
    guarded = Server(tmp_path, "--port", "7872", "--weights", "faces", "--host", "0.0.0.0")
    token = guarded.url.split("?token=")[1]
    request = browser.new_context().request
    try:
        assert request.get("http://127.0.0.1:7872/").status == 401
        assert request.get("http://127.0.0.1:7872/?token=guess").status == 401
        assert request.get("http://127.0.0.1:7872/gradio_api/info").status == 401
        bearer = {"Authorization": f"Bearer {token}"}
        assert request.get("http://127.0.0.1:7872/gradio_api/info", headers=bearer).status == 200
        assert request.get(f"http://127.0.0.1:7872/?token={token}").status == 200
        assert request.get("http://127.0.0.1:7872/gradio_api/info").status == 200
    finally:
        guarded.stop(signal.SIGTERM)


@pytest.mark.slow
def test_it_ends_in_order_while_something_is_computed(browser, tmp_path) -> None:
    ended = Server(tmp_path, "--port", "7874", "--weights", "faces")
    try:
        visitor = Visitor(browser, ended.url)
        visitor.drop(PHOTO)
        visitor.page.wait_for_selector(KNOB)
        visitor.page.get_by_label("best: closer").check()
        visitor.page.click("#edit-closer")
        visitor.page.wait_for_selector("#edit-progress:has-text('best: 1')")
    finally:
        ended.stop(signal.SIGTERM)
    visitor.context.close()


def test_the_guard_asks_for_the_token_once_and_names_files_its_own_way(tmp_path) -> None:
    seen: list[bytes] = []

    async def app(scope, receive, send) -> None:
        body = (await receive()).get("body", b"")
        seen.append(scope["path"].encode() + body)
        kind = b"application/json" if body else b"text/event-stream"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": json.dumps({"path": f"{tmp_path}/a/b.png"}).encode()})

    guard = Guard(app, Owners(), tmp_path, None, "secret")
    client = TestClient(guard, follow_redirects=False)
    assert client.get("/").status_code == client.get("/?token=guess").status_code == 401
    assert not seen
    assert client.get("/gradio_api/info", headers={"Authorization": "Bearer secret"}).status_code == 200
    assert client.get("/?token=secret").status_code == 303
    for ask in (client.get, lambda path: client.post(path, json={"path": "/stkit-files/a/b.png"})):
        answer = ask("/gradio_api/queue")
        assert answer.json() == {"path": "/stkit-files/a/b.png"}
        assert int(answer.headers.get("content-length", len(answer.content))) == len(answer.content)
    assert str(tmp_path).encode() in seen[-1] and b"/stkit-files" not in seen[-1]
    owner = client.cookies["stkit_web"]
    guard.owners.give(tmp_path / "a/b.png", owner)
    assert client.get("/gradio_api/file=/stkit-files/a/b.png").status_code == 200
    assert client.get(f"/gradio_api/file={tmp_path}/a/b.png").status_code == 403
    client.cookies.clear()
    bearer = {"Authorization": "Bearer secret"}
    assert client.get("/gradio_api/file=/stkit-files/a/b.png", headers=bearer).status_code == 403


def test_what_goes_wrong_is_told_without_folders_and_as_html_to_the_page_alone() -> None:
    def fail() -> None:
        raise PhotoError("cannot read /srv/<b>/weights/photo.png; see https://example.org/a/b or ./c/d")

    text = "cannot read photo.png; see https://example.org/a/b or ./c/d"
    with pytest.raises(gradio.Error) as page:
        told(fail)()
    assert page.value.message == text
    with pytest.raises(gradio.Error, match="unexpected ZeroDivisionError"):
        told(lambda: 1 // 0)()
    assert as_told(PhotoError("<b>"), program=True).message == "<b>"
    assert as_told(PhotoError("<b>")).message == "&lt;b&gt;"


def test_a_photo_with_a_name_like_a_flag_is_still_a_photo_on_the_command_line() -> None:
    photo: Any = SimpleNamespace(path=Path("-x y.jpg"))
    editor: Any = SimpleNamespace(weights=SimpleNamespace(name="faces"))
    work = Work(editor, photo, (), {}, edits={"ganspace:pc1": -1.0}, reference="--ref.jpg")
    words = ["./-x y.jpg", "--weights", "faces", "--face", "1", "--quality", "fast"]
    assert shlex.split(command(work)) == ["stkit", "edit", *words, "--edit", "ganspace:pc1=-1", "--ref", "./--ref.jpg"]


def test_what_waited_for_a_window_that_was_closed_leaves_nothing_behind(tmp_path) -> None:
    desk = Desk(tmp_path / "files", "cpu", Owners())
    asked = SimpleNamespace(headers={OWNER.decode(): "me"}, session_hash="window")
    seat = desk.seat(asked, "edit")
    assert desk.write(seat, "a.png", b"1").is_file()
    desk.leave(asked)
    for late in (lambda: desk.write(seat, "b.png", b"2"), lambda: desk.seat(asked, "edit")):
        with pytest.raises(UsageError, match="lost touch"):
            late()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_who_came_first_gives_way_when_there_are_too_many(tmp_path) -> None:
    desk = Desk(tmp_path / "files", "cpu", Owners())
    asked = [SimpleNamespace(headers={OWNER.decode(): "me"}, session_hash=str(n)) for n in range(SEATS + 1)]
    files = [desk.write(desk.seat(one, "edit"), "a.png", b"1") for one in asked]
    assert [path.exists() for path in files] == [False] + [True] * SEATS
    desk.close()
    assert not any(path.exists() for path in files)
