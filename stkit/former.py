"""What old names did whose successors are called otherwise: they still do it, by the successor, for one version.

`stkit.moved` says which names these are, and leads here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stkit.errors import UsageError, WeightsError
from stkit.plugins import load_plugins

if TYPE_CHECKING:
    from PIL import Image

    from stkit.checkpoints.stored import StoredTensor
    from stkit.checkpoints.unpickle import Record
    from stkit.models.shapes import StyleGAN2Config


def upright_rgb(image: Image.Image) -> Image.Image:
    """An opened image of any mode as 8-bit sRGB, upright, on white."""
    from stkit.photo.colour import to_rgb
    from stkit.photo.reading import UPRIGHT, orientation

    rgb, turned = to_rgb(image), UPRIGHT.get(orientation(image))
    return rgb if turned is None else rgb.transpose(turned)


def read_rgb(data: bytes) -> Image.Image:
    """An image file's bytes as upright 8-bit sRGB. Raises PhotoError."""
    from stkit.photo.reading import decode_photo

    return decode_photo(data, Path("photo")).image


def make_config(
    resolution: int, z_dim: int, w_dim: int, mapping_layers: int, last: int, widest: int
) -> StyleGAN2Config:
    """The configuration of a generator whose last block has `last` channels and whose first `widest`.

    Raises WeightsError.
    """
    from stkit.models.shapes import StyleGAN2Config

    try:
        return StyleGAN2Config(resolution, z_dim, w_dim, mapping_layers, last * resolution, widest)
    except UsageError as error:
        raise WeightsError(f"a generator that stkit cannot run: {error}") from None


def module_tensors(record: Record, prefix: str = "") -> Iterator[tuple[str, StoredTensor]]:
    """Names and tensors of a pickled torch module. Raises WeightsError."""
    from stkit.checkpoints.wrapping import module_tensors_of

    return ((prefix + name, tensor) for name, tensor in module_tensors_of(record).items())


def network_variables(network: Record, prefix: str = "") -> Iterator[tuple[str, StoredTensor]]:
    """Names and values of a TensorFlow network's variables, components included. Raises WeightsError."""
    from stkit.checkpoints.nvidia_tf import network_tensors

    return ((prefix + name, tensor) for name, tensor in network_tensors(network).items())


def require_any_photos_face(face: str) -> None:
    """Raise UsageError unless `face` chooses in any photo: "largest", "all" or a number."""
    from stkit.jobs.invert import find_place

    find_place(face, None, None, alone=False)


def __getattr__(name: str) -> Mapping[str, tuple[str, ...]]:
    """`QUALITIES`: the refinements of each quality."""
    if name != "QUALITIES":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from stkit.editor.refinement import QUALITIES, refinements_of

    return {quality: refinements_of(load_plugins(), quality, None) for quality in QUALITIES}


__all__ = ["make_config", "module_tensors", "network_variables", "read_rgb", "require_any_photos_face", "upright_rgb"]
