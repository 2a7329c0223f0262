"""`stkit train inverter`."""

from __future__ import annotations

import enum
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
    copy_part,
    feature_dtype,
    image_sets,
    is_first_process,
    loop_config,
    require_room,
    run_notes,
    tell_done,
    training_device,
)
from stkit.errors import MissingPackageError
from stkit.plugins import load_plugins


class Architecture(str, enum.Enum):
    """What an inverter can be."""

    STYLE_TRANSFORMER = "style-transformer"
    PSP = "psp"
    E4E = "e4e"
    RESTYLE = "restyle"


def run(
    data: DataArgument,
    out: OutFlag,
    weights: Annotated[str, typer.Option("--weights", help="Weights whose generator to invert.")] = "faces",
    architecture: Annotated[
        Architecture, typer.Option("--architecture", help="What to train, in about the same small size.")
    ] = Architecture.STYLE_TRANSFORMER,
    steps: StepsFlag = 20_000,
    batch: BatchFlag = 8,
    init: Annotated[str | None, typer.Option("--init", help="Weights whose inverter to start from.")] = None,
    learning_rate: Annotated[float, typer.Option("--learning-rate")] = 1e-4,
    l2: Annotated[float, typer.Option("--l2", help="Weight of the L2 loss; 0 leaves it out.")] = 1.0,
    lpips: Annotated[float, typer.Option("--lpips", help="Weight of LPIPS-Alex.")] = 0.8,
    identity: Annotated[
        float,
        typer.Option("--identity", help="Weight of the identity loss: the domain's network, else lite0's features."),
    ] = 0.1,
    latent: Annotated[float, typer.Option("--latent", help="Share of steps on samples with known codes.")] = 0.0,
    resume: ResumeFlag = False,
    seed: SeedFlag = 0,
    precision: PrecisionFlag = "auto",
    compile: CompileFlag = True,
    save_seconds: SaveFlag = 120,
    sample_seconds: SampleFlag = 300,
    device: DeviceFlag = "auto",
) -> None:
    """Train an inverter for a generator that stays as it is (L2, LPIPS, identity; e4e's own losses for e4e)."""
    from stkit.models.psp_encoders import PSPEncoder, PSPEncoderConfig, load_psp_encoder
    from stkit.models.registry import load_generator
    from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig, load_style_transformer
    from stkit.training.inverter import (
        InverterConfig,
        InverterRun,
        comparison_resolution,
        export_inverter,
        load_identity,
    )
    from stkit.weights import find_weights

    found = find_weights(weights)
    chosen_device = training_device(device)
    generator = load_generator(found)
    origin = find_weights(init) if init else None
    shape: StyleTransformerConfig | PSPEncoderConfig
    first: StyleTransformer | PSPEncoder | None
    if architecture is Architecture.STYLE_TRANSFORMER:
        first = load_style_transformer(origin) if origin else None
        shape = first.config if first else StyleTransformerConfig.small(generator.config)
    else:
        first = load_psp_encoder(origin, architecture.value) if origin else None
        shape = first.config if first else PSPEncoderConfig.small(architecture.value, generator.config)
    start = first.state_dict() if first else None
    require_room(out, "inverter", found)
    loop = loop_config(out, steps, batch, seed, resume, save_seconds, sample_seconds)
    size = comparison_resolution(shape, generator.config)
    config = InverterConfig(
        shape,
        learning_rate=learning_rate,
        l2=l2,
        lpips=lpips,
        identity=identity,
        latent=latent,
        zoom=size < 256,
        dtype=feature_dtype(precision, chosen_device),
        compile=compile,
    )
    train_set, val_set = image_sets(data, size, found.domain)
    embedder = None
    if identity:
        try:
            embedder = load_identity(load_plugins().domain(found.domain), found.alignment, chosen_device)
        except MissingPackageError as error:
            raise MissingPackageError(f"{error}, or leave out this loss with --identity 0") from error
    run = InverterRun(config, generator, loop, train_set, val_set, chosen_device, embedder, start)
    if run.train() == steps and is_first_process():
        averaged = run.ema.model
        assert isinstance(averaged, (StyleTransformer, PSPEncoder))
        export_inverter(
            averaged,
            out,
            generator=found.fingerprint,
            domain=found.domain,
            alignment=found.alignment,
            licence=found.header.licence,
            notes=run_notes(data, train_set, loop),
        )
        copy_part(found, out, "generator")
        tell_done(out)


__all__ = ["run"]
