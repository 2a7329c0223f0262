"""`stkit latents`: what is in a latent file, and what can be made of its codes."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stkit.cli.common import DeviceFlag, DomainFlag, OverwriteFlag, WeightsFlag, console, open_editor
from stkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stkit.editor.editor import Editor
    from stkit.latents.latents import Latents

logger = logging.getLogger("stkit")

app = typer.Typer(help="Show, mix, average, import and export latent files.", no_args_is_help=True)

_ROWS = 200  # shown of a file
_PICTURES = 64

FilesArgument = Annotated[list[Path], typer.Argument(help="Latent files or quoted patterns, in a bucket too.")]
FileFlag = Annotated[Path, typer.Option("--out", help="The file to write; a picture of it goes beside it.")]


@app.command()
def show(files: FilesArgument) -> None:
    """Print what each file holds: codes, space, generator, and where each row came from."""
    from rich.table import Table

    for file, latents in _each(files):
        shape = " x ".join(map(str, latents.codes.shape))
        console.print(f"{file}: {shape} in {latents.space}, generator {latents.generator[:12]}")
        table = Table("row", "photo", "weights", "inverter", "edits", "RMS")
        for number, row in enumerate(latents.provenance[:_ROWS]):
            size = float(latents.codes[number].square().mean().sqrt())
            cells = [row.photo or "", row.weights or "", row.inverter or "", ", ".join(row.edits)]
            table.add_row(str(number), *cells, f"{size:.3f}")
        if latents.provenance:
            console.print(table)
        if len(latents) > _ROWS:
            console.print(f"... and {len(latents) - _ROWS} more rows")


@app.command("mix")
def mix_files(
    first: Annotated[Path, typer.Argument(help="A latent file.")],
    second: Annotated[Path, typer.Argument(help="A latent file of one row, or of as many as the first.")],
    out: FileFlag,
    amount: Annotated[float, typer.Option("--amount", help="0 is the first, 1 the second.")] = 0.5,
    layers: Annotated[str | None, typer.Option("--layers", help="Only these, like 4-7; 0 is the coarsest.")] = None,
    weights: WeightsFlag = None,
    device: DeviceFlag = "auto",
    overwrite: OverwriteFlag = False,
) -> None:
    """Move the codes of FIRST towards those of SECOND; with --layers and --amount 1 this is style mixing."""
    from stkit.latents.latents import load_latents, mix
    from stkit.options import LayerRange

    chosen = LayerRange.parse(layers) if layers else None
    _write(mix(load_latents(first), load_latents(second), amount, chosen), out, weights, device, overwrite)


@app.command("average")
def average_files(
    files: FilesArgument,
    out: FileFlag,
    weights: WeightsFlag = None,
    device: DeviceFlag = "auto",
    overwrite: OverwriteFlag = False,
) -> None:
    """Write the mean of all rows of all files: the average face."""
    from stkit.latents.latents import average, join_latents

    _write(average(join_latents([latents for _, latents in _each(files)])), out, weights, device, overwrite)


def _each(files: list[Path]) -> Iterator[tuple[Path, Latents]]:
    """The latents of each file, of all that a pattern in a bucket stands for."""
    from stkit.jobs.sources import matching
    from stkit.latents.latents import load_latents

    for file in files:
        for path in matching(str(file)) or [file]:
            yield path, load_latents(path)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="A latent file.")],
    npz: Annotated[Path, typer.Option("--npz", help="The NumPy archive to write.")],
    overwrite: OverwriteFlag = False,
) -> None:
    """Write codes and provenance as a NumPy archive, for other programs: codes, space, generator, provenance (JSON)."""
    import dataclasses
    import io

    import numpy as np

    from stkit.files import atomic_path
    from stkit.latents.latents import beside_codes, load_latents

    latents = load_latents(file)
    require_free(npz, overwrite)
    data = io.BytesIO()
    rows = [json.dumps(dataclasses.asdict(row)) for row in latents.provenance]
    generator, space = np.array(latents.generator), np.array(str(latents.space))
    np.savez(data, codes=latents.codes.numpy(), space=space, generator=generator, provenance=np.array(rows, dtype=str))
    with atomic_path(npz) as temporary:
        temporary.write_bytes(data.getvalue())
    if left := beside_codes(latents):
        logger.warning("%s has the codes without %s; their pictures are others", npz, " and ".join(left))
    console.print(str(npz))


@app.command("import")
def import_codes(
    file: Annotated[Path, typer.Argument(help="A .npz, .npy, .pt or .pkl file with codes.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The latent file to write; FILE.latents.safetensors otherwise.")
    ] = None,
    domain: DomainFlag = None,
    weights: WeightsFlag = None,
    overwrite: OverwriteFlag = False,
) -> None:
    """Take over codes of other programs' projectors and encoders (NVIDIA's, e4e's, PTI's, ...), for --weights."""
    from stkit.jobs.outputs import LATENTS_SUFFIX
    from stkit.jobs.sources import open_latents
    from stkit.latents.latents import save_latents

    out = out or file.with_name(file.stem + LATENTS_SUFFIX)
    if out.suffix != ".safetensors":
        raise UsageError(f"'{out}' does not end in .safetensors; name a latent file")
    latents = open_latents(file, domain, weights)
    require_free(out, overwrite)
    save_latents(latents, out)
    console.print(f"{len(latents)} codes in {latents.space}, generator {latents.generator[:12]}")
    console.print(str(out))


def editor_of(latents: Latents, weights: str | None, device: str, domain: str | None = None) -> Editor:
    """The editor of `--weights`, or of those that the codes were made with.

    Raises LatentsError if they do not fit, UsageError if they are not for `domain`.
    """
    known = next((row.weights for row in latents.provenance if row.weights), None)
    editor = open_editor(domain, weights or known, device)
    latents.require_generator(editor.weights.space, editor.weights.name)
    return editor


def require_free(path: Path, overwrite: bool) -> None:
    """Raise UsageError when something is at `path` and may not be overwritten."""
    if path.exists() and not overwrite:
        raise UsageError(f"{path} is there already; choose another name, or give --overwrite")


def _write(latents: Latents, out: Path, weights: str | None, device: str, overwrite: bool) -> None:
    from stkit.latents.latents import save_latents
    from stkit.photo.images import image_grid, save_image

    if out.suffix != ".safetensors":
        raise UsageError(f"'{out}' does not end in .safetensors; name a latent file")
    picture = out.with_suffix(".png")
    for path in (out, picture):
        require_free(path, overwrite)
    editor = editor_of(latents, weights, device)
    images = [editor.picture(editor.generate(latents.row(row))[0]) for row in range(min(len(latents), _PICTURES))]
    save_image(image_grid(images, 8), picture)
    save_latents(latents, out)
    for path in (out, picture):
        console.print(str(path))


__all__ = ["app", "average_files", "editor_of", "export", "import_codes", "mix_files", "require_free", "show"]
