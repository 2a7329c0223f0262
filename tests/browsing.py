"""The page in a real browser: a server of its own, and people who visit it."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

STKIT = Path(sys.executable).with_name("stkit")
PHOTO = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
WAIT = 60_000
_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
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


@contextlib.contextmanager
def serving(home: Path, *flags: str) -> Iterator[Server]:
    """A server that ends by Ctrl-C."""
    server = Server(home, *flags)
    yield server
    server.stop(signal.SIGINT)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser, with a camera that shows a test picture."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        opened = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *_CAMERA])
        yield opened
        opened.close()


class Visitor:
    """A browser window of somebody's own, at the page."""

    def __init__(self, browser: Any, url: str, width: int = 1300) -> None:
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

    def box(self, picture: str) -> dict[str, float]:
        """Where a picture lies, once it no longer grows or moves."""
        was: dict[str, float] = {}
        while (now := self.page.locator(picture).bounding_box()) != was:
            was = now
            self.page.wait_for_timeout(200)
        return was

    def settled(self, edits: str) -> None:
        """Wait until the full picture of these edits is there."""
        self.page.wait_for_selector(f"#edit-status:has-text('Full picture: {edits}')")
