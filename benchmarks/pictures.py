"""A grid of edits to look at: `python -m benchmarks.pictures DATA.zip --faces NAME ... --edits EDIT ... --out FILE`.

A row for each face: the crop, its reconstruction, the reference if there is one, then every edit. The faces are crops
framed as the weights' training data were; docs/editing.md shows what it draws.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import stkit
from stkit.cli.common import print_error
from stkit.contracts.inversion import InversionContext
from stkit.datasets.images import ImageFiles, decode_image
from stkit.editor.editor import Editor
from stkit.errors import StkitError, UnknownNameError
from stkit.files import atomic_path
from stkit.options import build_options
from stkit.photo.images import encode_image, image_grid


def draw(
    editor: Editor,
    source: Path,
    faces: Sequence[str],
    reference: str | None,
    edits: Sequence[str],
    photos: bool = True,
    size: int | None = None,
) -> Image.Image:
    """The grid of `edits`, written as for `stkit edit --edit`, of the files `faces` in a folder or archive.

    Pictures are `size` pixels wide, by default as large as the weights make them.

    Raises PhotoError, UnknownNameError for a file that is not there, and what editing raises.
    """
    inverter = editor.registry.inverter_for(editor.weights)
    options, context = build_options(inverter.Options, {}), InversionContext(editor.weights, editor.device)
    crops = read_crops(editor, source, faces)
    latents = inverter.invert(crops.to(editor.device), options, context)
    columns = [_column(editor, crops, "photo")] if photos else []
    columns.append(_column(editor, editor.generate(latents), "inverted"))
    references = None
    if reference:
        crop = read_crops(editor, source, [reference])
        references = inverter.invert(crop.to(editor.device), options, context)
        columns.append(_column(editor, crop.expand_as(crops), "reference"))
    for text in edits:
        step = editor.parse_step(text, references)
        edited = editor.apply(latents, [step], references)
        columns.append(_column(editor, editor.generate(edited), f"{step.method} {step.caption}"))
    cells = [cell for row in zip(*columns, strict=True) for cell in row]
    pictures = [picture for picture, _ in cells]
    if size:
        pictures = [picture.resize((size, size), Image.Resampling.LANCZOS) for picture in pictures]
    return image_grid(pictures, len(columns), [caption for _, caption in cells])


def read_crops(editor: Editor, source: Path, names: Sequence[str]) -> Tensor:
    """Files of a folder or archive by their bare `names`: [N, 3, R, R] in [-1, 1]. Raises PhotoError, UsageError."""
    size, crop = editor.weights.resolution, editor.domain.output_crop
    files = ImageFiles(source)
    paths = {Path(path).name: path for path in files.names}
    for name in names:
        if name not in paths:
            raise UnknownNameError(f"image in {source.name}", name, paths)
    pixels = [torch.tensor(decode_image(files.read(paths[name]), name, size, crop)) for name in names]
    return torch.stack(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def _column(editor: Editor, images: Tensor, caption: str) -> list[tuple[Image.Image, str]]:
    return [(editor.picture(image), caption) for image in images]


def main() -> None:
    """Draw and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description="A grid of edits to look at.")
    parser.add_argument("data", type=Path, help="folder or archive of aligned crops")
    parser.add_argument("--faces", nargs="+", required=True, metavar="NAME", help="files in it, one a row")
    parser.add_argument(
        "--edits", nargs="+", required=True, metavar="EDIT", help="as for stkit edit --edit, one a column"
    )
    parser.add_argument("--reference", metavar="NAME", help="the file in it that serves as --ref")
    parser.add_argument("--no-photos", action="store_true", help="leave out the column of the photos themselves")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the picture to write (.png, .jpg)")
    parser.add_argument("--size", type=int, metavar="PX", help="of each picture (default: as the weights make them)")
    parser.add_argument("--quality", type=int, default=85, help="of a JPEG, 1 to 95 (default 85)")
    parser.add_argument("--weights", default="faces", help="weights by name or folder (default faces)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    args = parser.parse_args()
    try:
        editor = stkit.load(stkit.find_weights(args.weights), args.device)
        grid = draw(editor, args.data, args.faces, args.reference, args.edits, not args.no_photos, args.size)
        with atomic_path(args.out) as temporary:
            temporary.write_bytes(encode_image(grid, args.out, quality=args.quality))
    except StkitError as error:
        print_error(str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
