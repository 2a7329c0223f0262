"""`stkit train reconstruction`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from stkit.cli.common import DeviceFlag, console, progress_bar
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
from stkit.errors import StkitError, UsageError


def run(
    data: DataArgument,
    out: OutFlag,
    steps: StepsFlag = 3000,
    batch: BatchFlag = 32,
    resolution: ResolutionFlag = DEFAULT_SHAPE["img_resolution"],
    w_dim: WDimFlag = DEFAULT_SHAPE["w_dim"],
    mapping_layers: LayersFlag = DEFAULT_SHAPE["mapping_layers"],
    channel_base: BaseFlag = DEFAULT_SHAPE["channel_base"],
    channel_max: MaxFlag = DEFAULT_SHAPE["channel_max"],
    init: Annotated[str | None, typer.Option("--init", help="Weights whose two networks to start from.")] = None,
    learning_rate: Annotated[float, typer.Option("--learning-rate")] = 1e-3,
    generator_rate: Annotated[
        float | None,
        typer.Option("--generator-rate", min=0.01, help="The generator's, as a multiple of it: 5, with --init 1."),
    ] = None,
    grow_from: Annotated[
        int | None, typer.Option("--grow-from", min=8, help="Resolution to start at; it doubles up to --resolution.")
    ] = None,
    input_resolution: Annotated[
        int | None,
        typer.Option("--input-resolution", min=32, help="What the inverter sees; default the resolution, or --init's."),
    ] = None,
    lpips: Annotated[float, typer.Option("--lpips", help="Weight of LPIPS-Alex.")] = 0.8,
    mean_share: Annotated[
        float, typer.Option("--mean-share", min=0, max=1, help="Of each batch, rendered from its mean w.")
    ] = 0.25,
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
    """Train a generator and its inverter together by reconstruction: the quickest start, also on a CPU."""
    import torch

    from stkit.models.registry import load_generator
    from stkit.models.shapes import StyleGAN2Config
    from stkit.models.style_transformer import StyleTransformerConfig, load_style_transformer
    from stkit.models.stylegan2 import require_stylegan2
    from stkit.training.mapping import fit_mapping, mean_codes
    from stkit.training.reconstruction import (
        Autoencoder,
        ReconstructionConfig,
        ReconstructionRun,
        export_reconstruction,
    )
    from stkit.weights import find_weights

    first = find_weights(init) if init is not None else None
    source, chosen_device = origin(domain, licence, first), training_device(device)
    generator = StyleGAN2Config(resolution, w_dim, w_dim, mapping_layers, channel_base, channel_max)
    inverter, start = StyleTransformerConfig.small(generator), None
    if first is not None:
        trained = require_stylegan2(load_generator(first), "this training")
        networks = {"generator": trained, "inverter": load_style_transformer(first)}
        require_same_shape(generator, trained.config, first.name)
        generator, inverter = trained.config, load_style_transformer(first).config
        start = torch.nn.ModuleDict(networks).state_dict()
    if input_resolution is not None:
        inverter = replace(inverter, input_resolution=input_resolution)
    last = generator.img_resolution
    if grow_from is not None and (grow_from > last or grow_from & (grow_from - 1)):
        raise UsageError(f"--grow-from {grow_from} is no power of two up to the generator's {last} px")
    require_room(out, "generator")
    loop = loop_config(out, steps, batch, seed, resume, save_seconds, sample_seconds)
    config = ReconstructionConfig(
        generator,
        inverter,
        learning_rate=learning_rate,
        generator_rate=generator_rate or (5.0 if init is None else 1.0),
        lpips=lpips,
        mean_share=mean_share,
        grow_from=grow_from,
        zoom=generator.img_resolution < 256,
        dtype=feature_dtype(precision, chosen_device),
        compile=compile,
    )
    train_set, val_set = image_sets(data, generator.img_resolution, source["domain"])
    if len(train_set) < 10:
        raise StkitError(f"{data} has {len(train_set)} images to train on; 10 are the least, hundreds make a model")
    run = ReconstructionRun(config, loop, train_set, val_set, chosen_device, start)
    if run.train() == steps and is_first_process():
        model = run.ema.model
        assert isinstance(model, Autoencoder)
        with progress_bar("fitting the mapping network") as on_progress:
            codes = mean_codes(model.inverter, train_set, chosen_device, config.dtype, on_progress)
        figures = fit_mapping(model.generator, codes)
        console.print("mapping: " + "  ".join(f"{name} {value:.3f}" for name, value in figures.items()))
        export_reconstruction(model, out, **source, notes=run_notes(data, train_set, loop))
        tell_done(out)


__all__ = ["run"]
