"""Gradio's image components, with pictures that never become files here, and uploads that stkit reads itself."""

from __future__ import annotations

from abc import ABCMeta
from typing import Any

import gradio as gr
from gradio.components.imageslider import SliderData
from gradio.data_classes import ImageData

from stkit_web.work import data_url


def _inline(picture: Any) -> ImageData:
    return ImageData(url=picture if isinstance(picture, str) else data_url(picture))


def _variant(base: type, name: str, **methods: Any) -> Any:
    """A subclass that shows as its base. Not by a class statement: Gradio would write a .pyi file beside this one."""
    return ABCMeta.__new__(type(base), name, (base,), {"is_template": True, "__module__": __name__, **methods})


Upload = _variant(gr.Image, "Upload", preprocess=lambda self, payload: None if payload is None else payload.path)
"""An image that people give: the path of the file, whatever it holds."""


def photo_upload(**looks: Any) -> Any:
    """An Upload of a photo: dropped or chosen, pasted, or shot."""
    return Upload(sources=["upload", "clipboard", "webcam"], type="filepath", buttons=[], **looks)


Archive = _variant(gr.File, "Archive", preprocess=lambda self, payload: None if payload is None else payload.path)
"""A file that people give: its path."""

Picture = _variant(gr.Image, "Picture", postprocess=lambda self, value: None if value is None else _inline(value))
"""A Pillow image, or a data URL, to look at."""

Comparison = _variant(
    gr.ImageSlider,
    "Comparison",
    postprocess=lambda self, value: None if value is None else SliderData(root=(_inline(value[0]), _inline(value[1]))),
)
"""Two Pillow images to compare."""

__all__ = ["Archive", "Comparison", "Picture", "Upload", "photo_upload"]
