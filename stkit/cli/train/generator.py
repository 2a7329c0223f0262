"""`stkit train generator`."""

from __future__ import annotations

from typing import Annotated

import typer

from stkit.cli.common import DeviceFlag
from stkit.cli.train.common import (
    DEFAULT_SHAPE,
    BaseFlag,
    BatchFlag,
    CompileFlag,
    DataArgument,
    LayersFlag,
    MaxFlag,
    OutFlag,
    OwnDomainFlag,
    OwnLicenceFlag,
    PrecisionFlag,
    ResolutionFlag,
    ResumeFlag,
    SampleFlag,
    SaveFlag,
    SeedFlag,
    StepsFlag,
    WDimFlag,
    carry_over,
    feature_dtype,
    image_sets,
    is_first_process,
    loop_config,
    origin,
    require_room,
    require_same_shape,
    run_notes,
    tell_done,
    training_device,
)
from stkit.errors import UsageError


def run(
    data: DataArgument,
    out: OutFlag,
    steps: StepsFlag = 20_000,
    batch: BatchFlag = 32,
    resolution: ResolutionFlag = DEFAULT_SHAPE["img_resolution"],
    w_dim: WDimFlag = DEFAULT_SHAPE["w_dim"],
    mapping_layers: LayersFlag = DEFAULT_SHAPE["mapping_layers"],
    channel_base: BaseFlag = DEFAULT_SHAPE["channel_base"],
    channel_max: MaxFlag = DEFAULT_SHAPE["channel_max"],
    init: Annotated[str | None, typer.Option("--init", help="Weights whose generator to start from.")] = None,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Of both networks.")] = 2e-3,
    r1_gamma: Annotated[float | None, typer.Option("--r1-gamma", help="By default StyleGAN2-ADA's rule.")] = None,
    discriminator: Annotated[str, typer.Option("--discriminator", help="stylegan2 or projected.")] = "stylegan2",
    warmup: Annotated[
        int, typer.Option("--warmup", min=0, help="Steps at the start in which the discriminator alone learns.")
    ] = 0,
    keep: Annotated[
        float | None,
        typer.Option("--keep", min=0, help="Keep what --init's inverter reconstructs: the weight of MSE + LPIPS."),
    ] = None,
    ada: Annotated[bool, typer.Option("--ada/--no-ada", help="Adaptive discriminator augmentation.")] = True,
    domain: OwnDomainFlag = None,
    licence: OwnLicenceFlag = None,
    resume: ResumeFlag = False,
    seed: SeedFlag = 0,
    precision: PrecisionFlag = "auto",
    compile: CompileFlag = True,
    save_seconds: SaveFlag = 120,
    sample_seconds: SampleFlag = 300,
    device: DeviceFlag = "auto",
) -> None:
    """Train a StyleGAN2 generator against a discriminator: StyleGAN2's own with ADA, or a projected one."""
    from stkit.models.discriminator import DiscriminatorConfig
    from stkit.models.projected import ProjectedConfig
    from stkit.models.registry import load_generator
    from stkit.models.shapes import StyleGAN2Config
    from stkit.models.style_transformer import load_style_transformer
    from stkit.models.stylegan2 import StyleGAN2, require_stylegan2
    from stkit.training.augment import DIFF_AUGMENT, AugmentConfig
    from stkit.training.generator import AdversarialConfig, GeneratorRun, export_generator
    from stkit.weights import find_weights

    shape = StyleGAN2Config(resolution, w_dim, w_dim, mapping_layers, channel_base, channel_max)
    start = None
    if keep is not None and init is None:
        raise UsageError("--keep is for the inverter of the weights to start from; give --init")
    weights = find_weights(init) if init is not None else None
    if weights is not None:
        first = require_stylegan2(load_generator(weights), "this training")
        require_same_shape(shape, first.config, weights.name)
        shape, start = first.config, first.state_dict()
    kept = load_style_transformer(weights) if weights is not None and keep is not None else None
    require_room(out, "generator")
    source, chosen_device = origin(domain, licence, weights), training_device(device)
    loop = loop_config(out, steps, batch, seed, resume, save_seconds, sample_seconds)
    if discriminator not in ("stylegan2", "projected"):
        raise UsageError(f"discriminator '{discriminator}' is not stylegan2 or projected")
    projected = discriminator == "projected"
    if projected and r1_gamma is not None:
        raise UsageError("a projected discriminator has no R1 penalty; leave out --r1-gamma")
    config = AdversarialConfig(
        shape,
        ProjectedConfig(shape.img_resolution)
        if projected
        else DiscriminatorConfig(shape.img_resolution, shape.channel_base, shape.channel_max),
        d_warmup=warmup,
        keep=keep or 0.0,
        zoom=shape.img_resolution < 256,
        augment=DIFF_AUGMENT if projected else AugmentConfig(),
        augment_p=1.0 if projected else 0.0,
        g_learning_rate=learning_rate,
        d_learning_rate=learning_rate,
        r1_gamma=r1_gamma,
        ada_target=0.6 if ada and not projected else None,
        dtype=feature_dtype(precision, chosen_device),
        compile=compile,
    )
    train_set, val_set = image_sets(data, shape.img_resolution, source["domain"])
    run = GeneratorRun(config, loop, train_set, chosen_device, start, kept, val_set)
    if run.train() == steps and is_first_process():
        averaged = run.ema.model
        assert isinstance(averaged, StyleGAN2)
        header = export_generator(averaged, out, **source, notes=run_notes(data, train_set, loop))
        if weights is not None and kept is not None:
            carry_over(weights, out, header.fingerprint)
        tell_done(out)


__all__ = ["run"]
