"""`stkit train inverter`."""

from __future__ import annotations

import shutil
from typing import Annotated

import typer

from stkit.cli.common import DeviceFlag
from stkit.cli.train.common import (
    BatchFlag,
    CompileFlag,
    DataArgument,
    OutFlag,
    PrecisionFlag,
    ResumeFlag,
    SampleFlag,
    SaveFlag,
    SeedFlag,
    StepsFlag,
    feature_dtype,
    image_sets,
    is_first_process,
    loop_config,
    run_notes,
    tell_done,
    training_device,
)
from stkit.plugins import load_plugins


def run(
    data: DataArgument,
    out: OutFlag,
    weights: Annotated[str, typer.Option("--weights", help="Weights whose generator to invert.")] = "faces",
    steps: StepsFlag = 20_000,
    batch: BatchFlag = 8,
    init: Annotated[str | None, typer.Option("--init", help="Weights whose inverter to start from.")] = None,
    learning_rate: Annotated[float, typer.Option("--learning-rate")] = 1e-4,
    l2: Annotated[float, typer.Option("--l2", help="Weight of the L2 loss; 0 leaves it out.")] = 1.0,
    lpips: Annotated[float, typer.Option("--lpips", help="Weight of LPIPS-Alex.")] = 0.8,
    identity: Annotated[float, typer.Option("--identity", help="Weight of the domain's identity loss.")] = 0.1,
    latent: Annotated[float, typer.Option("--latent", help="Share of steps on samples with known codes.")] = 0.0,
    resume: ResumeFlag = False,
    seed: SeedFlag = 0,
    precision: PrecisionFlag = "bf16",
    compile: CompileFlag = True,
    save_seconds: SaveFlag = 120,
    sample_seconds: SampleFlag = 300,
    device: DeviceFlag = "auto",
) -> None:
    """Train the Style Transformer for a generator that stays as it is (L2, LPIPS, identity)."""
    from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
    from stkit.training.inverter import InverterConfig, InverterRun, export_inverter
    from stkit.weights import find_weights

    found = find_weights(weights)
    chosen_device = training_device(device)
    generator = found.generator()
    shape, start = StyleTransformerConfig.small(generator.config), None
    if init is not None:
        first = find_weights(init).style_transformer()
        shape, start = first.config, first.state_dict()
    loop = loop_config(out, steps, batch, seed, resume, save_seconds, sample_seconds)
    config = InverterConfig(
        shape,
        learning_rate=learning_rate,
        l2=l2,
        lpips=lpips,
        identity=identity,
        latent=latent,
        dtype=feature_dtype(precision),
        compile=compile,
    )
    train_set, val_set = image_sets(data, shape.input_resolution, found.domain)
    embedder = load_plugins().domain(found.domain).load_embedder(found.alignment, chosen_device) if identity else None
    run = InverterRun(config, generator, loop, train_set, val_set, chosen_device, embedder, start)
    if run.train() == steps and is_first_process():
        averaged = run.ema.model
        assert isinstance(averaged, StyleTransformer)
        export_inverter(
            averaged,
            out,
            generator=found.fingerprint,
            domain=found.domain,
            alignment=found.alignment,
            licence=found.header.licence,
            notes=run_notes(data, train_set, loop),
        )
        shutil.copyfile(found.path("generator"), out / "generator.safetensors")
        tell_done(out)


__all__ = ["run"]
