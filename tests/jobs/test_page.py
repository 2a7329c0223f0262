from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

from stkit.jobs.page import MOST, Card, Picture, Table, inline_picture, picture_side, render_page


def test_everything_that_has_a_name_is_shown_as_text() -> None:
    name = "<script>alert(1)</script>\"' & \x1b[31m\u202e\udcff.jpg"
    card = Card(name, [Picture(name, name)], {name: name}, [name], failed=name, link=name)
    page = render_page(name, name, {name: name}, [Table([name], [[name]], name)], [card, card]).decode()
    assert page.count("<script>") == 1
    assert "alert(1)&lt;/script&gt;" in page
    assert "\x1b" not in page and "\u202e" not in page and "\\x1b[31m\\u202e\\udcff.jpg" in page
    assert not re.search(r'="[^"]*\'[^"]*<script', page)


def test_a_page_names_nothing_outside_itself() -> None:
    pair = [Picture(inline_picture(Image.new("RGB", (9, 7), "red"), 384), side) for side in ("before", "after")]
    page = render_page("A", cards=[Card("a", pair)]).decode()
    assert "default-src 'none'; img-src data:" in page
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[\w+/=]+", "", page))
    assert page.count("data:image/webp;base64,") == 2 and 'type="range"' in page


def test_pictures_are_as_small_as_their_number_asks_for() -> None:
    sides = [picture_side(count) for count in (1, 100, 1000, MOST, 10 * MOST)]
    assert sides == sorted(sides, reverse=True) and sides[0] > 2 * sides[-1]
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 600, 4), np.uint8))
    source = inline_picture(noise, 200)
    shown = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
    assert shown.size == (200, 30) and shown.mode == "RGB"
