"""How many misaligned or foreign crops the warning of unusual photos notices.

    python -m benchmarks.unusual faces128.zip cars128.zip

Test faces are turned, moved and enlarged, and reconstructed; a crop is noticed when its error is above that of 99 of
100 test faces as they are. Prints a Markdown table of the shares that MSE and LPIPS notice.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image, ImageChops

import stkit
from stkit.datasets.images import ImageSet, load_image_set
from stkit.jobs.evaluation.quick import reconstruction_errors
from stkit.measure.usual import usual_errors

Change = Callable[[Image.Image], Image.Image]


def _turned(degrees: float) -> Change:
    return lambda image: image.rotate(degrees, Image.Resampling.BICUBIC)


def _moved(image: Image.Image) -> Image.Image:
    return ImageChops.offset(image, image.width // 8, 0)


def _enlarged(image: Image.Image) -> Image.Image:
    side = image.width
    return image.resize(image.size, Image.Resampling.BICUBIC, (0.15 * side, 0.15 * side, 0.85 * side, 0.85 * side))


CHANGES: dict[str, Change] = {
    "as it is": lambda image: image,
    "turned by 15 degrees": _turned(15),
    "turned by 30 degrees": _turned(30),
    "upside down": _turned(180),
    "moved by an eighth": _moved,
    "enlarged 1.4 times": _enlarged,
}


def changed(images: ImageSet, change: Change, count: int) -> ImageSet:
    """The first `count` images after `change`."""
    pictures = [change(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images.images[:count]]
    pixels = [torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8).view(p.height, p.width, 3) for p in pictures]
    return dataclasses.replace(images, images=torch.stack(pixels).permute(0, 3, 1, 2), names=images.names[:count])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("cars", type=Path)
    parser.add_argument("--weights", default="faces")
    parser.add_argument("--images", type=int, default=80)
    given = parser.parse_args()
    editor = stkit.load(stkit.find_weights(given.weights))
    usual = usual_errors(editor.weights)
    if usual is None:
        raise SystemExit(f"'{given.weights}' has no usual errors; `stkit evaluate --quick --calibrate` measures them")
    faces, cars = (load_image_set(path, editor.weights.resolution, "test") for path in (given.faces, given.cars))
    sets = {name: changed(faces, change, given.images) for name, change in CHANGES.items()}
    sets["a car"] = changed(cars, CHANGES["as it is"], given.images)
    print("| crop | median MSE | median LPIPS | noticed by MSE | by LPIPS |\n| --- | --- | --- | --- | --- |")
    for name, image_set in sets.items():
        errors = reconstruction_errors(editor, image_set)
        cells = [f"{errors[key].median():.3f}" for key in ("mse", "lpips")]
        cells += [f"{(errors[key] > usual[key]['p99']).float().mean():.0%}" for key in ("mse", "lpips")]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
