"""Speed of the page's previews beside the bare rendering: `python -m benchmarks.page PHOTO [--weights NAME ...]`.

Sliders are moved in turn; a round is the bare rendering of the preview's size, the preview that the page computes
(edit, rendering, blending, JPEG), and, with `--browser`, the way of a move in Chromium from the key to the new picture.
Wall times are medians over rounds, ratios the medians of the rounds' ratios, so that a busy machine slows both; CPU
times are the server's side, of all its threads.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table
from stkit_web import work as works
from stkit_web.server import start

import stkit
from stkit.photo.reading import load_photo
from stkit.weights import find_weights

_WATCH = """() => {
    const shown = () => [...document.querySelectorAll("#edit-view img")].at(-1);
    const old = shown().src;
    let pressed;
    addEventListener("keydown", () => { pressed = performance.now(); }, { capture: true, once: true });
    window.seen = new Promise((resolve) => {
        const watch = new MutationObserver(async () => {
            if (shown().src === old) return;
            watch.disconnect();
            await shown().decode();
            resolve((performance.now() - pressed) / 1000);
        });
        watch.observe(document.body, { subtree: true, attributes: true, childList: true });
    });
}"""
"""Measured in the browser, where no driver waits in between: until the new picture is decoded."""

Times = tuple[float, float]
"""Seconds: of the wall, of the processor."""


def timed(do: Callable[[], object]) -> Times:
    """How long it takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    do()
    return time.perf_counter() - wall, time.process_time() - cpu


def opened(photo: Path, weights: str) -> works.Work:
    """The photo's first face, inverted."""
    work = works.locate(stkit.load(find_weights(weights)), load_photo(photo))
    works.choose(work, "1")
    works.invert(work, "fast")
    return work


def measure(work: works.Work, rounds: int, move: Callable[[int], Times] | None) -> dict[str, list[Times]]:
    """Times of the bare rendering, of the page's preview and of a move in the browser, a pair a round."""
    assert work.latents is not None
    latents, editor = work.latents, work.editor
    key = next(iter(work.knobs.values()))[0].key

    def preview(step: int) -> None:
        works.place(work, key, 0.1 * (1 + step % 15))
        for image in works.preview(work):
            works.data_url(image)

    times: dict[str, list[Times]] = {"bare rendering": [], "preview": [], "key to picture": []}
    for step in range(-2, rounds):
        row = [timed(lambda: editor.generate(latents, editor.preview_size)), timed(functools.partial(preview, step))]
        row += [move(step)] if move else []
        if step >= 0:
            for known, seconds in zip(times.values(), row, strict=False):
                known.append(seconds)
    return {name: known for name, known in times.items() if known}


@contextmanager
def browser(photo: Path, weights: str, port: int) -> Iterator[Callable[[int], Times]]:
    """The page in Chromium with the photo open; gives what moves the first slider by a key."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    running = start(find_weights(weights), "cpu", port=port)
    try:
        with sync_playwright() as player:
            page = player.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
            page.set_default_timeout(300_000)
            page.goto(running.url)
            page.wait_for_selector("#edit-upload input[type=file]", state="attached")
            page.set_input_files("#edit-upload input[type=file]", photo)
            page.wait_for_selector(".stkit-knob input[type=range]")
            page.wait_for_selector("#edit-status:has-text('Move a slider')")

            def press() -> float:
                page.keyboard.press("ArrowRight")
                return float(page.evaluate("() => window.seen"))

            def move(step: int) -> Times:
                page.locator(".stkit-knob input[type=range]").first.focus()
                page.evaluate(_WATCH)
                cpu = time.process_time()
                times = press(), time.process_time() - cpu
                page.wait_for_selector("#edit-status:has-text('Full picture')")
                return times

            yield move
    finally:
        running.close()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--weights", nargs="+", default=["ffhq", "faces"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--browser", action="store_true")
    parser.add_argument("--port", type=int, default=7899)
    asked = parser.parse_args()
    table = Table("weights", "what", "seconds", "times the bare rendering", "CPU seconds")
    for name in asked.weights:
        work = opened(asked.photo, name)
        if asked.browser:
            with browser(asked.photo, name, asked.port) as move:
                times = measure(work, asked.rounds, move)
        else:
            times = measure(work, asked.rounds, None)
        bare = [wall for wall, _ in times["bare rendering"]]
        for what, known in times.items():
            wall, cpu = (statistics.median(column) for column in zip(*known, strict=True))
            ratio = statistics.median(one / base for (one, _), base in zip(known, bare, strict=True))
            table.add_row(name, what, f"{wall:.2f}", f"{ratio:.2f}", f"{cpu:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
