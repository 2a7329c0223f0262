"""The page as a whole, and the server that shows it to the right people alone."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stkit.plugin import UsageError, find_weights, load_plugins, weights_names
from stkit_web.guard import Guard, Owners

if TYPE_CHECKING:
    import gradio as gr

    from stkit import Weights
    from stkit_web.desk import Desk

_INTRODUCTION = "# stkit\nDrop a photo, move a slider, download the result. Photos stay on this computer."
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HERE = Path(__file__).parent
MOST_BYTES = 512 * 2**20
"""Of one upload: photos of 160 million pixels, and archives of photos."""


@dataclass
class Running:
    """A server that runs: `url` opens the page, with the token if it needs one."""

    url: str
    demo: gr.Blocks
    desk: Desk
    root: Path

    def close(self) -> None:
        """Stop it and remove all that it wrote."""
        self.demo.close(verbose=False)
        self.desk.close()
        shutil.rmtree(self.root, ignore_errors=True)


def installed(domain: str | None = None) -> list[str]:
    """Names of the weights that are there with an inverter, those of `domain` or of all others ("!faces")."""
    found = []
    for name in weights_names():
        with contextlib.suppress(Exception):  # what is broken is said by `stkit weights`
            weights = find_weights(name)
            wanted = domain is None or (weights.domain != domain[1:] if domain[0] == "!" else weights.domain == domain)
            if wanted and weights.inverters() and weights.domain in load_plugins().domains:
                found.append(name)
    return found


def start(
    first: Weights, device: str, host: str = "127.0.0.1", port: int | None = None, auth: tuple[str, str] | None = None
) -> Running:
    """Start the page in the background. Raises UsageError for a port that is taken or a host that is none."""
    root = Path(tempfile.mkdtemp(prefix="stkit-web-"))
    # Gradio reads these when it is imported or asked.
    os.environ.update(GRADIO_TEMP_DIR=str(root / "files"), GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1")

    from stkit_web.desk import Desk

    owners = Owners()
    desk = Desk(root / "files", device, owners)
    desk.editor(first.name)
    demo = build(desk, first)
    token, hosts = entry(host, auth)
    from starlette.middleware import Middleware

    try:
        _, url, _ = demo.queue(max_size=200).launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            inbrowser=False,
            share=False,
            auth=auth,
            show_error=False,
            ssr_mode=False,
            max_file_size=MOST_BYTES,
            footer_links=["api"],
            enable_monitoring=False,
            css_paths=[HERE / "page.css"],
            js=(HERE / "page.js").read_text(encoding="utf-8"),
            theme=_theme(),
            app_kwargs={
                "middleware": [Middleware(Guard, owners=owners, inside=root / "files", hosts=hosts, token=token)]
            },
        )
    except OSError as error:
        shutil.rmtree(root, ignore_errors=True)
        raise UsageError(
            f"cannot listen on {host}:{port}; choose another --port, or stop what listens there"
        ) from error
    running = Running(url.rstrip("/") + (f"/?token={token}" if token else "/"), demo, desk, root)
    atexit.register(running.close)
    return running


def entry(host: str, auth: tuple[str, str] | None) -> tuple[str | None, tuple[str, ...] | None]:
    """The token that a page at `host` asks for, if any, and the names that it goes by, None is any."""
    if host in LOOPBACK:
        return None, LOOPBACK
    return None if auth else secrets.token_urlsafe(24), None


def build(desk: Desk, first: Weights) -> gr.Blocks:
    """The page."""
    import gradio as gr

    from stkit_web import edit_tab
    from stkit_web.errors import told
    from stkit_web.folder_tab import folder
    from stkit_web.mix_tab import mixing
    from stkit_web.program import program
    from stkit_web.samples_tab import samples

    seeds = itertools.count(secrets.randbelow(1000))
    alike = [first.name, *(name for name in installed(first.domain) if name != first.name)]
    others = installed(f"!{first.domain}")
    with gr.Blocks(title="stkit", analytics_enabled=False, fill_width=True, delete_cache=(300, 1800)) as demo:
        gr.Markdown(_INTRODUCTION)
        with gr.Tabs() as tabs:
            with gr.Tab("Edit", id="edit"):
                edit = edit_tab.build(desk, "edit", alike, lambda: next(seeds))
            with gr.Tab("Mix and morph", id="mix"):
                mixing(desk, alike + others)
            with gr.Tab("Samples", id="samples"):
                samples(desk, alike, tabs, edit)
            if others:
                with gr.Tab("Cars and own domains", id="other"):
                    edit_tab.build(desk, "other", others, lambda: next(seeds))
            with gr.Tab("Folder", id="folder"):
                folder(desk, alike + others)
        program(desk, alike + others)
        demo.unload(told(desk.leave))
    for event in demo.fns.values():
        if event.renderable is not None:  # they draw the sliders, which would be copied: see EditParts.small
            event.show_progress_on = []
    return demo


def _theme() -> gr.Theme:
    import gradio as gr

    theme = gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return theme.set(
        background_fill_primary="*neutral_50",
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_title_padding="0",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
    )


def serve(
    first: Weights, device: str, host: str, port: int, auth: tuple[str, str] | None, browser: bool
) -> Iterator[str]:
    """Run the page until Ctrl-C or SIGTERM; gives the lines to print."""
    running = start(first, device, host, port, auth)
    try:
        for number in (signal.SIGINT, signal.SIGTERM):  # shells start what is in the background without SIGINT
            signal.signal(number, signal.default_int_handler)
        yield f"stkit's page is at {running.url}"
        if browser:
            import webbrowser

            webbrowser.open(running.url)
        yield "Ctrl-C ends it"
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    finally:
        running.close()


__all__ = ["LOOPBACK", "MOST_BYTES", "Running", "build", "entry", "installed", "serve", "start"]
