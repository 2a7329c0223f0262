"""What the training commands share: flags, and what every run needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stkit.cli.common import console, progress_bar
from stkit.errors import UsageError
from stkit.plugins import load_plugins

if TYPE_CHECKING:
    import torch

    from stkit.datasets.codes import LabelledCodes
    from stkit.datasets.images import ImageSet
    from stkit.models.shapes import StyleGAN2Config
    from stkit.training.loop import LoopConfig
    from stkit.weights import Weights

DataArgument = Annotated[Path, typer.Argument(help="A zip or a folder of aligned images, a CSV with splits beside it.")]
OutFlag = Annotated[Path, typer.Option("--out", help="The run's folder: checkpoint, log, samples, and the weights.")]
StepsFlag = Annotated[int, typer.Option("--steps", min=1, help="Optimiser steps.")]
BatchFlag = Annotated[int, typer.Option("--batch", min=2, help="Images a step.")]
ResumeFlag = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")]
SeedFlag = Annotated[int, typer.Option("--seed", help="Of all randomness of the run.")]
PrecisionFlag = Annotated[str, typer.Option("--precision", help="auto (bf16 where it is native), bf16 or fp32.")]
CompileFlag = Annotated[bool, typer.Option("--compile/--no-compile", help="Use torch.compile: slow start, fast steps.")]
LicenceFlag = Annotated[str, typer.Option("--licence", help="Written into the weights.")]
OwnLicenceFlag = Annotated[
    str | None, typer.Option("--licence", help="Written into the weights; by default that of --init.")
]
OwnDomainFlag = Annotated[
    str | None, typer.Option("--domain", help="What the images show; by default what --init is for, else faces.")
]
SaveFlag = Annotated[float, typer.Option("--save-seconds", help="Between checkpoints.")]
SampleFlag = Annotated[float, typer.Option("--sample-seconds", help="Between sample grids with validation.")]
ResolutionFlag = Annotated[int, typer.Option("--resolution", help="Of the generator, a power of two.")]
WDimFlag = Annotated[int, typer.Option("--w-dim", help="Width of z and w.")]
LayersFlag = Annotated[int, typer.Option("--mapping-layers", help="Layers of the mapping network, 2 to 8.")]
BaseFlag = Annotated[int, typer.Option("--channel-base", help="Channels are this over the resolution, ...")]
MaxFlag = Annotated[int, typer.Option("--channel-max", help="... but at most this.")]

DEFAULT_SHAPE = {"img_resolution": 128, "w_dim": 256, "mapping_layers": 4, "channel_base": 6144, "channel_max": 256}
_SHAPE_FLAGS = ("--resolution", "--w-dim", "--mapping-layers", "--channel-base", "--channel-max")

ImagesFlag = Annotated[Path, typer.Option("--images", help="A zip or a folder of images.")]
OwnWeightsFlag = Annotated[str, typer.Option("--weights", help="Weights whose generator and inverter to use.")]


def loop_config(
    out: Path, steps: int, batch: int, seed: int, resume: bool, save_seconds: float, sample_seconds: float
) -> LoopConfig:
    from stkit.training.loop import LoopConfig

    return LoopConfig(out, steps, batch, seed, resume, save_seconds, sample_seconds)


def feature_dtype(precision: str, device: torch.device) -> torch.dtype:
    import torch

    from stkit.devices import fast_dtype

    names = {"auto": fast_dtype(device), "bf16": torch.bfloat16, "fp32": torch.float32}
    if precision not in names:
        raise UsageError(f"precision '{precision}' is not auto, bf16 or fp32")
    return names[precision]


def image_sets(data: Path, resolution: int, domain: str) -> tuple[ImageSet, ImageSet]:
    """The splits train and val, in the picture part of the domain's squares; see `load_train_val`."""
    from stkit.datasets.images import load_train_val

    output_crop = load_plugins().domain(domain).output_crop
    with progress_bar("reading images") as on_progress:
        train_set, val_set = load_train_val(data, resolution, on_progress, output_crop)
    broken = len(train_set.broken) + len(val_set.broken)
    console.print(f"{len(train_set)} images to train, {len(val_set)} to validate, {broken} could not be read")
    return train_set, val_set


def require_room(out: Path, kind: str, weights: Weights | None = None) -> None:
    """Raise UsageError when a run cannot write a file of `kind` to `out`.

    There is one that no run has left there, or `out` belongs to another generator than `weights`.
    """
    from stkit.weights import load_header

    path, generator = out / f"{kind}.safetensors", out / "generator.safetensors"
    if path.exists() and not (out / "checkpoint.pt").exists():
        raise UsageError(f"{path} is there already; choose another --out, or move it away")
    if weights and generator.exists() and load_header(generator).fingerprint != weights.fingerprint:
        raise UsageError(f"{out} holds another generator than weights '{weights.name}'; choose another --out")


def require_same_shape(asked: StyleGAN2Config, first: StyleGAN2Config, init: str) -> None:
    """Raise UsageError when flags ask for another shape of generator than that of --init; defaults ask for nothing."""
    for (name, default), flag in zip(DEFAULT_SHAPE.items(), _SHAPE_FLAGS, strict=True):
        value, theirs = getattr(asked, name), getattr(first, name)
        if value not in (theirs, default):
            raise UsageError(f"{flag} {value} does not fit --init {init}, which has {theirs}; leave out {flag}")


def copy_beside(weights: Weights, out: Path, kind: str) -> None:
    """Copy all files of `weights` but that of `kind` to `out`, so that `out` is weights itself."""
    for other in weights.kinds():
        if other != kind:
            copy_part(weights, out, other)


def carry_over(weights: Weights, out: Path, generator: str, leave_out: tuple[str, ...] = ()) -> None:
    """Write all that `weights` have beside their generator to `out`, for the one of the fingerprint `generator` there.

    Files of the kinds in `leave_out` stay behind. It must take the same codes. The usual errors of the inverter were
    another generator's and are left out.
    """
    from stkit.measure.usual import USUAL_ERRORS
    from stkit.weights import load_tensors, save_tensors

    for kind in sorted(weights.kinds(), key=lambda kind: kind == "inverter"):  # last: it says that all is there
        if kind not in ("generator", *leave_out):
            header, tensors = load_tensors(weights.path(kind))
            notes = {name: value for name, value in header.notes.items() if name != USUAL_ERRORS}
            save_tensors(out / f"{kind}.safetensors", tensors, replace(header, generator=generator, notes=notes))


def copy_part(weights: Weights, out: Path, kind: str) -> None:
    """Copy the file of `kind` to `out`, unless one is there."""
    from stkit.files import atomic_path

    target = out / f"{kind}.safetensors"
    if not target.exists():
        with atomic_path(target) as temporary:
            temporary.write_bytes(weights.path(kind).read_bytes())


def inverted(
    weights: Weights,
    images: Path,
    aligned: bool,
    labels: Path | None,
    columns: list[tuple[str, str | None]],
    inverter: str | None,
    device: torch.device,
) -> LabelledCodes:
    """Codes of the photos in `images` that `labels` lists (all by default) by the named inverter, through the cache."""
    from stkit.datasets.codes import labelled_codes
    from stkit.datasets.images import ImageFiles
    from stkit.datasets.labels import Labels, load_labels

    if labels is None:
        with ImageFiles(images) as files:
            table = Labels(images, files.names, {}, None)
    else:
        table = load_labels(labels)
    registry = load_plugins()
    domain = None if aligned else registry.domain(weights.domain)
    with progress_bar("inverting photos") as on_progress:
        codes = labelled_codes(
            weights, table, images, columns, registry.inverter_for(weights, inverter), device, on_progress, domain
        )
    held_out = int(codes.val.sum())
    console.print(f"{len(codes.names) - held_out} photos to train, {held_out} to validate")
    return codes


def attribute_columns(text: str) -> list[tuple[str, str | None]]:
    """`age,sex=M` as columns with what counts as 1 in a column of words. Raises UsageError."""
    from stkit.jobs.labelled import AttributeSpec

    columns = [(spec.column, spec.positive) for spec in map(AttributeSpec.parse, text.split(","))]
    for name in (names := [name for name, _ in columns]):
        if names.count(name) > 1:
            raise UsageError(f"attribute '{name}' is given twice; keep one of them")
    return columns


def origin(domain: str | None, licence: str | None, first: Weights | None) -> Mapping[str, Any]:
    """Domain, alignment and licence of new weights, by default those of the weights `first` that they start from."""
    if domain is None:
        domain = first.domain if first else "faces"
    template = load_plugins().domain(domain).template
    alignment = first.alignment if first and domain == first.domain else template
    if licence is None:
        licence = first.header.licence if first else "unknown"
    return {"domain": domain, "alignment": alignment, "licence": licence}


def run_notes(data: Path, train_set: ImageSet, loop: LoopConfig) -> dict[str, Any]:
    return {"data": data.name, "images": len(train_set), "steps": loop.steps, "batch": loop.batch}


def training_device(name: str) -> torch.device:
    """The device to train on; under torchrun the processes join here."""
    from stkit.devices import resolve_device
    from stkit.training import parallel

    device = resolve_device(name)
    parallel.start(device)
    return device


def require_one_process(command: str) -> None:
    """Raise UsageError under torchrun."""
    import os

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(f"`train {command}` is one process; start it without torchrun")


def is_first_process() -> bool:
    from stkit.training import parallel

    return parallel.rank() == 0


def tell_done(out: Path) -> None:
    console.print(f"done; use it with --weights {out}")


__all__ = [
    "BaseFlag",
    "BatchFlag",
    "CompileFlag",
    "DataArgument",
    "ImagesFlag",
    "LayersFlag",
    "LicenceFlag",
    "MaxFlag",
    "OutFlag",
    "OwnDomainFlag",
    "OwnLicenceFlag",
    "OwnWeightsFlag",
    "PrecisionFlag",
    "ResolutionFlag",
    "ResumeFlag",
    "SampleFlag",
    "SaveFlag",
    "SeedFlag",
    "StepsFlag",
    "WDimFlag",
    "attribute_columns",
    "carry_over",
    "copy_beside",
    "copy_part",
    "feature_dtype",
    "image_sets",
    "inverted",
    "is_first_process",
    "loop_config",
    "origin",
    "require_one_process",
    "require_room",
    "run_notes",
    "tell_done",
    "training_device",
]
