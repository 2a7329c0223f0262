"""Pictures on the screen: a viewer window, or coloured half blocks in the terminal."""

from __future__ import annotations

import logging
import os
import sys
import webbrowser
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stkit.cli.common import console

if TYPE_CHECKING:
    from PIL import Image
    from rich.text import Text

logger = logging.getLogger("stkit")

ShowFlag = Annotated[bool, typer.Option("--show", help="Open the pictures in a viewer.")]
PreviewFlag = Annotated[bool, typer.Option("--preview", help="Print the picture in the terminal.")]


def show_images(paths: Iterable[Path]) -> None:
    """Open the files in whatever the desktop shows pictures with; a warning where there is no desktop."""
    headless = sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    for path in paths:
        try:
            opened = not headless and webbrowser.open(path.absolute().as_uri())
        except (webbrowser.Error, OSError):
            opened = False
        if not opened:
            logger.warning("cannot show %s: no viewer here; open the file yourself", path)


def print_preview(image: Image.Image) -> None:
    """Print `image` in the terminal, as wide as it is."""
    console.print(half_blocks(image, min(console.width, 100)), soft_wrap=False)


def half_blocks(image: Image.Image, columns: int) -> Text:
    """`image` as lines of at most `columns` upper half blocks, two pixels each."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    width = max(1, min(columns, image.width))
    height = max(2, round(image.height * width / image.width / 2) * 2)
    pixels = image.convert("RGB").resize((width, height)).load()
    assert pixels is not None
    text = Text(no_wrap=True)
    for y in range(0, height, 2):
        for x in range(width):
            upper, lower = (Color.from_rgb(*pixels[x, row]) for row in (y, y + 1))  # type: ignore[misc]
            text.append("▀", Style(color=upper, bgcolor=lower))
        text.append("\n")
    return text


__all__ = ["PreviewFlag", "ShowFlag", "half_blocks", "print_preview", "show_images"]
