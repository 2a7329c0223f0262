"""`stkit train reference`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stkit.cli.common import AlignedFlag, DeviceFlag, InverterFlag, console
from stkit.cli.train.common import (
    BatchFlag,
    ImagesFlag,
    OutFlag,
    OwnWeightsFlag,
    ResumeFlag,
    SampleFlag,
    SaveFlag,
    SeedFlag,
    StepsFlag,
    attribute_columns,
    copy_beside,
    inverted,
    loop_config,
    require_one_process,
    require_room,
    tell_done,
)
from stkit.errors import UsageError


def run(
    images: ImagesFlag,
    attributes: Annotated[str, typer.Option("--attributes", help="Of the weights' classifier, like age,smile.")],
    out: OutFlag,
    weights: OwnWeightsFlag = "faces",
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Which photos to take, with their splits; all by default.")
    ] = None,
    steps: StepsFlag = 3000,
    batch: BatchFlag = 64,
    learning_rate: Annotated[float, typer.Option("--learning-rate")] = 1e-4,
    inverter: InverterFlag = None,
    aligned: AlignedFlag = True,
    resume: ResumeFlag = False,
    seed: SeedFlag = 0,
    save_seconds: SaveFlag = 60,
    sample_seconds: SampleFlag = 60,
    device: DeviceFlag = "auto",
) -> None:
    """Train the block that `reference` edits carry attributes over with; the weights need a classifier."""
    from stkit.devices import resolve_device
    from stkit.models.latent_classifier import load_classifier
    from stkit.models.reference_block import ReferenceBlockConfig
    from stkit.training.reference import ReferenceConfig, ReferenceRun, export_reference, transfer_figures
    from stkit.weights import find_weights, load_header

    require_one_process("reference")
    found = find_weights(weights)
    chosen_device = resolve_device(device)
    columns = attribute_columns(attributes)
    for name, positive in columns:
        if positive:
            raise UsageError(f"attribute '{name}={positive}': the classifier knows what counts as 1; give '{name}'")
    classifier = load_classifier(found)
    require_room(out, "reference", found)
    photos = inverted(found, images, aligned, labels, [], inverter, chosen_device)
    shape = ReferenceBlockConfig.for_codes(tuple(name for name, _ in columns), found.num_ws, found.w_dim)
    loop = loop_config(out, steps, batch, seed, resume, save_seconds, sample_seconds)
    config = ReferenceConfig(shape, learning_rate)
    val_codes = photos.codes[photos.val]
    run = ReferenceRun(config, classifier, loop, photos.codes[~photos.val], val_codes, chosen_device)
    if run.train() == steps:
        block = run.averaged.cpu()
        figures = transfer_figures(block, classifier, val_codes)
        for name, values in figures.items():
            console.print(
                f"{name}: {100 * values['transfer']:.0f}% of the way to the reference, others moved by "
                f"{values['drift']:.2f} standard deviations, on {len(val_codes)} held-out pairs, says the classifier"
            )
        notes = {
            "data": images.name,
            "photos": int((~photos.val).sum()),
            "steps": steps,
            "inverter": inverter or found.own_inverter(),
            "classifier": load_header(found.path("classifier")).fingerprint,
            "held_out": figures,
        }
        export_reference(block, out, found, notes)
        copy_beside(found, out, "reference")
        tell_done(out)


__all__ = ["run"]
