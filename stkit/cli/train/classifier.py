"""`stkit train classifier`."""

from __future__ import annotations

import dataclasses
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


def run(
    labels: Annotated[Path, typer.Option("--labels", help="CSV, TSV, CelebA's list or dataset.json.")],
    images: ImagesFlag,
    attributes: Annotated[str, typer.Option("--attributes", help="Columns, like age,sex=M,smile: M counts as 1.")],
    out: OutFlag,
    weights: OwnWeightsFlag = "faces",
    steps: StepsFlag = 1500,
    batch: BatchFlag = 128,
    learning_rate: Annotated[float, typer.Option("--learning-rate")] = 3e-4,
    weight_decay: Annotated[float, typer.Option("--weight-decay")] = 0.05,
    noise: Annotated[float, typer.Option("--noise", help="On the codes, in their standard deviations.")] = 2.0,
    inverter: InverterFlag = None,
    aligned: AlignedFlag = True,
    resume: ResumeFlag = False,
    seed: SeedFlag = 0,
    save_seconds: SaveFlag = 60,
    sample_seconds: SampleFlag = 60,
    device: DeviceFlag = "auto",
) -> None:
    """Train the latent classifier that `label` and `reference` edits steer by, from labelled photos."""
    from stkit.devices import resolve_device
    from stkit.models.latent_classifier import LatentClassifierConfig
    from stkit.training.classifier import ClassifierConfig, ClassifierRun, export_classifier, held_out_figures
    from stkit.weights import find_weights

    require_one_process("classifier")
    found = find_weights(weights)
    chosen_device = resolve_device(device)
    columns = attribute_columns(attributes)
    require_room(out, "classifier", found)
    labelled = inverted(found, images, aligned, labels, columns, inverter, chosen_device)
    shape = LatentClassifierConfig.for_codes(labelled.attributes, found.num_ws, found.w_dim)
    config = ClassifierConfig(shape, learning_rate, weight_decay, noise)
    loop = loop_config(out, steps, batch, seed, resume, save_seconds, sample_seconds)
    run = ClassifierRun(config, loop, labelled, chosen_device)
    if run.train() == steps:
        figures = held_out_figures(run.averaged.cpu(), labelled, run.targets)
        for name, values in figures.items():
            console.print(
                f"{name}: accuracy {values['accuracy']:.3f} (the larger class {values['majority']:.3f}), correlation "
                f"{values['correlation']:.3f} on {values['photos']} held-out photos"
            )
        notes = {
            "data": images.name,
            "photos": int((~labelled.val).sum()),
            "steps": steps,
            "inverter": inverter or found.own_inverter(),
            "targets": {
                name: dataclasses.asdict(target) for name, target in zip(labelled.attributes, run.targets, strict=True)
            },
            "positive": {name: positive for name, positive in columns if positive},
            "held_out": figures,
        }
        export_classifier(run.averaged, out, found, notes)
        copy_beside(found, out, "classifier")
        tell_done(out)


__all__ = ["run"]
