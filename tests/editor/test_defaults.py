"""Which weights a domain stands for, as commands and `stkit.load` choose them."""

from __future__ import annotations

import logging
import shutil

import pytest

import stkit
from stkit.editor.defaults import default_weights
from stkit.editor.opening import open_editor, open_weights
from stkit.plugins import load_plugins
from stkit.weights import Weights, user_folder


def put(weights: Weights, name: str, inverter: bool = True) -> None:
    shutil.copytree(weights.folder, user_folder() / name, ignore=None if inverter else lambda *_: FILES)


FILES = [f"inverter{kind}.safetensors" for kind in ("", "-psp", "-e4e", "-restyle")]


def test_small_faces_until_the_preferred_ones_are_there(
    caplog: pytest.LogCaptureFixture, tiny_weights: Weights
) -> None:
    caplog.set_level(logging.INFO, "stkit")
    assert open_weights(None, None).name == "faces"
    assert caplog.messages == [
        "these are the small weights 'faces' (128 px); for better ones: stkit weights download ffhq (38 MB)"
    ]
    put(tiny_weights, "ffhq")
    caplog.clear()
    assert open_weights(None, None).name == open_weights("faces", None).name == "ffhq"
    assert open_editor(None, None, "cpu").weights.name == stkit.load("faces", "cpu").weights.name == "ffhq"
    assert open_weights(None, "faces").name == open_editor("faces", "faces", "cpu").weights.name == "faces"
    assert stkit.load(stkit.find_weights("faces"), "cpu").weights.name == "faces"
    assert caplog.messages == []


def test_a_generator_alone_is_used_when_it_is_named(caplog: pytest.LogCaptureFixture, tiny_weights: Weights) -> None:
    caplog.set_level(logging.INFO, "stkit")
    put(tiny_weights, "ffhq", inverter=False)
    assert default_weights(load_plugins().domain("faces")).name == "faces"
    assert "'ffhq' have no inverter, and are used when named: --weights ffhq" in caplog.text
    caplog.clear()
    assert open_weights(None, "ffhq").name == "ffhq" and open_weights(None, "faces").name == "faces"
    assert open_weights("cars", None).name == "cars"
    assert caplog.messages == []
