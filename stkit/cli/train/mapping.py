"""`stkit train mapping`."""

from __future__ import annotations

from typing import Annotated

import typer

from stkit.cli.common import DeviceFlag, progress_bar
from stkit.cli.train.common import (
    BatchFlag,
    DataArgument,
    OutFlag,
    PrecisionFlag,
    ResumeFlag,
    SampleFlag,
    SaveFlag,
    SeedFlag,
    StepsFlag,
    carry_over,
    feature_dtype,
    image_sets,
    loop_config,
    origin,
    require_one_process,
    require_room,
    run_notes,
    tell_done,
)


def run(
    data: DataArgument,
    out: OutFlag,
    init: Annotated[str, typer.Option("--init", help="Weights whose mapping network to replace.")],
    steps: StepsFlag = 5000,
    batch: BatchFlag = 256,
    mapping_layers: Annotated[
        int, typer.Option("--mapping-layers", help="Layers of the new mapping network, 3 to 8.")
    ] = 6,
    resume: ResumeFlag = False,
    seed: SeedFlag = 0,
    precision: PrecisionFlag = "auto",
    save_seconds: SaveFlag = 60,
    sample_seconds: SampleFlag = 60,
    device: DeviceFlag = "auto",
) -> None:
    """Make samples look like photos: a new mapping network, which gives codes like those of the photos."""
    from stkit.devices import resolve_device
    from stkit.models.registry import load_generator
    from stkit.models.style_transformer import load_style_transformer
    from stkit.models.stylegan2 import require_stylegan2
    from stkit.training.generator import export_generator
    from stkit.training.mapping import mean_codes
    from stkit.training.mapping_gan import MappingConfig, MappingRun, with_mapping
    from stkit.weights import find_weights

    require_one_process("mapping")
    weights, chosen_device = find_weights(init), resolve_device(device)
    generator = require_stylegan2(load_generator(weights, chosen_device), "this training")
    inverter = load_style_transformer(weights, chosen_device)
    config = MappingConfig(generator.config.z_dim, generator.config.w_dim, mapping_layers)
    require_room(out, "generator")
    loop = loop_config(out, steps, batch, seed, resume, save_seconds, sample_seconds)
    train_set, val_set = image_sets(data, weights.resolution, weights.domain)
    dtype = feature_dtype(precision, chosen_device)
    with progress_bar("inverting photos") as on_progress:
        codes = mean_codes(inverter, train_set, chosen_device, dtype, on_progress)
    held_out = mean_codes(inverter, val_set, chosen_device, dtype)
    run = MappingRun(config, loop, generator, codes, held_out, train_set.output_crop, chosen_device)
    if run.train() == steps:
        finished = with_mapping(generator, run.averaged.network()).to(chosen_device)
        header = export_generator(finished, out, **origin(None, None, weights), notes=run_notes(data, train_set, loop))
        # The principal components were those of the old network's samples; they are computed anew when asked for.
        carry_over(weights, out, header.fingerprint, leave_out=("ganspace",))
        tell_done(out)


__all__ = ["run"]
