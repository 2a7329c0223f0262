"""What the training commands share: flags, and what every run needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stkit.cli.common import DeviceFlag, console, progress_bar
from stkit.errors import UsageError
from stkit.plugins import load_plugins
from stkit.training import runs
from stkit.training.config import Voice
from stkit.training.runs import (
    copy_beside,
    copy_part,
    feature_dtype,
    is_first_process,
    require_one_process,
    require_room,
    run_notes,
    training_device,
)

if TYPE_CHECKING:
    import torch

    from stkit.datasets.codes import LabelledCodes
    from stkit.datasets.images import ImageSet
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

ImagesFlag = Annotated[Path, typer.Option("--images", help="A zip or a folder of images.")]
OwnWeightsFlag = Annotated[str, typer.Option("--weights", help="Weights whose generator and inverter to use.")]


VOICE = Voice(console.print, progress_bar)
"""The command line's: lines on stdout, bars on stderr."""

IMAGE_RUN: Mapping[str, Any] = {
    "domain": OwnDomainFlag,
    "licence": OwnLicenceFlag,
    "resume": ResumeFlag,
    "seed": SeedFlag,
    "precision": PrecisionFlag,
    "compile": CompileFlag,
    "save_seconds": SaveFlag,
    "sample_seconds": SampleFlag,
    "device": DeviceFlag,
}
"""The flags that trainings of generators end with."""

SHAPE: Mapping[str, Any] = {
    "resolution": ResolutionFlag,
    "w_dim": WDimFlag,
    "mapping_layers": LayersFlag,
    "channel_base": BaseFlag,
    "channel_max": MaxFlag,
}
"""The flags of a generator's shape."""


def loop_config(
    out: Path, steps: int, batch: int, seed: int, resume: bool, save_seconds: float, sample_seconds: float
) -> LoopConfig:
    from stkit.training.loop import LoopConfig

    return LoopConfig(out, steps, batch, seed, resume, save_seconds, sample_seconds)


def image_sets(data: Path, resolution: int, domain: str) -> tuple[ImageSet, ImageSet]:
    """The splits train and val, in the picture part of the domain's squares; how many they are is printed."""
    return runs.image_sets(data, resolution, domain, VOICE)


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


def tell_done(out: Path) -> None:
    console.print(f"done; use it with --weights {out}")


__all__ = [
    "IMAGE_RUN",
    "SHAPE",
    "VOICE",
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
    "copy_beside",
    "copy_part",
    "feature_dtype",
    "image_sets",
    "inverted",
    "is_first_process",
    "loop_config",
    "require_one_process",
    "require_room",
    "run_notes",
    "tell_done",
    "training_device",
]
