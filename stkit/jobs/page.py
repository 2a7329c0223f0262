"""A report as one HTML page with nothing beside it: figures, tables, pictures before and after under a slider.

The pictures are in the page, small; nothing is fetched, and whatever things are called is shown as text.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from stkit.files import printable

MOST = 2000
"""Cards that a page shows pictures of."""
_SIDES = ((60, 384), (250, 320), (1000, 224), (MOST, 160))
"""(cards, longer side of their pictures in pixels): what keeps a page below some 20 MB."""
_QUALITY = 72


@dataclass(frozen=True)
class Picture:
    """A picture in a page, by `inline_picture`, and what it is called."""

    source: str
    caption: str = ""


@dataclass(frozen=True)
class Card:
    """What a page shows of one thing: of two pictures of one shape the second slides over the first.

    `failed` is why there is none, `notes` are warnings, `facts` figures; the title leads to `link` where there is one.
    """

    title: str
    pictures: Sequence[Picture] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    failed: str = ""
    link: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of texts, as many as columns; the first column is at the left, figures at the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


def render_page(
    title: str,
    about: str = "",
    facts: Mapping[str, str] | None = None,
    tables: Sequence[Table] = (),
    cards: Sequence[Card] = (),
    width: int | None = None,
) -> bytes:
    """The page, in UTF-8: title, what it is about, figures, tables, and the cards in their order.

    A column of cards is at least `width` wide, by default as many cards need.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,  # and not what is escaped already
    )
    width = width or (320 if len(cards) <= 250 else 224)
    values = {"title": title, "about": about, "facts": facts or {}, "tables": tables, "cards": cards, "width": width}
    return environment.get_template("page.html").render(values).encode()


def picture_side(cards: int) -> int:
    """Pixels of the longer side that keep a page of so many cards with two pictures each light."""
    return next((side for most, side in _SIDES if cards <= most), _SIDES[-1][1])


def inline_picture(image: Image.Image, side: int) -> str:
    """`image`, at most `side` pixels long, as what an `<img>` shows without a file."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    small.save(encoded, format="WEBP", quality=_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode()}"


__all__ = ["MOST", "Card", "Picture", "Table", "inline_picture", "picture_side", "render_page"]
