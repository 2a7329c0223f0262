"""`stkit train`: reconstruction, generator, inverter. Each leaves a weights folder that `--weights` takes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stkit.cli.common import DeviceFlag, DomainFlag, console, progress_bar
from stkit.errors import UsageError
from stkit.plugins import load_plugins

if TYPE_CHECKING:
    import torch

    from stkit.training.data import ImageSet
    from stkit.training.loop import LoopConfig

app = typer.Typer(help="Train models. Every run can be stopped at any moment and resumed.", no_args_is_help=True)

DataArgument = Annotated[Path, typer.Argument(help="A zip or a folder of aligned images, a CSV with splits beside it.")]
OutFlag = Annotated[Path, typer.Option("--out", help="The run's folder: checkpoint, log, samples, and the weights.")]
StepsFlag = Annotated[int, typer.Option("--steps", min=1, help="Optimiser steps.")]
BatchFlag = Annotated[int, typer.Option("--batch", min=2, help="Images a step.")]
ResumeFlag = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")]
SeedFlag = Annotated[int, typer.Option("--seed", help="Of all randomness of the run.")]
PrecisionFlag = Annotated[str, typer.Option("--precision", help="bf16 or fp32.")]
CompileFlag = Annotated[bool, typer.Option("--compile/--no-compile", help="Use torch.compile: slow start, fast steps.")]
LicenceFlag = Annotated[str, typer.Option("--licence", help="Written into the weights.")]
SaveFlag = Annotated[float, typer.Option("--save-seconds", help="Between checkpoints.")]
SampleFlag = Annotated[float, typer.Option("--sample-seconds", help="Between sample grids with validation.")]
ResolutionFlag = Annotated[int, typer.Option("--resolution", help="Of the generator, a power of two.")]
WDimFlag = Annotated[int, typer.Option("--w-dim", help="Width of z and w.")]
LayersFlag = Annotated[int, typer.Option("--mapping-layers", help="Layers of the mapping network, 2 to 8.")]
BaseFlag = Annotated[int, typer.Option("--channel-base", help="Channels are this over the resolution, ...")]
MaxFlag = Annotated[int, typer.Option("--channel-max", help="... but at most this.")]


@app.command("reconstruction")
def reconstruction(
    data: DataArgument,
    out: OutFlag,
    steps: StepsFlag = 3000,
    batch: BatchFlag = 32,
    resolution: ResolutionFlag = 128,
    w_dim: WDimFlag = 256,
    mapping_layers: LayersFlag = 4,
    channel_base: BaseFlag = 6144,
    channel_max: MaxFlag = 256,
    init: Annotated[str | None, typer.Option("--init", help="Weights whose two networks to start from.")] = None,
    learning_rate: Annotated[float, typer.Option("--learning-rate")] = 1e-3,
    domain: DomainFlag = "faces",
    licence: LicenceFlag = "unknown",
    resume: ResumeFlag = False,
    seed: SeedFlag = 0,
    precision: PrecisionFlag = "bf16",
    compile: CompileFlag = True,
    save_seconds: SaveFlag = 120,
    sample_seconds: SampleFlag = 300,
    device: DeviceFlag = "auto",
) -> None:
    """Train a generator and its inverter together by reconstruction: the quickest start, also on a CPU."""
    import torch

    from stkit.editor import resolve_device
    from stkit.models.style_transformer import StyleTransformerConfig
    from stkit.models.stylegan2 import GeneratorConfig
    from stkit.training.mapping import fit_mapping, mean_codes
    from stkit.training.reconstruction import (
        Autoencoder,
        ReconstructionConfig,
        ReconstructionRun,
        export_reconstruction,
    )
    from stkit.weights import find_weights

    generator = GeneratorConfig(resolution, w_dim, w_dim, mapping_layers, channel_base, channel_max)
    inverter, start = StyleTransformerConfig.small(generator), None
    if init is not None:
        first = find_weights(init)
        networks = {"generator": first.generator(), "inverter": first.style_transformer()}
        generator, inverter = first.generator().config, first.style_transformer().config
        start = torch.nn.ModuleDict(networks).state_dict()
    loop = _loop(out, steps, batch, seed, resume, save_seconds, sample_seconds)
    config = ReconstructionConfig(
        generator, inverter, learning_rate=learning_rate, dtype=_dtype(precision), compile=compile
    )
    train_set, val_set = _image_sets(data, generator.img_resolution)
    chosen_device = resolve_device(device)
    run = ReconstructionRun(config, loop, train_set, val_set, chosen_device, start)
    if run.train() == steps:
        model = run.ema.model
        assert isinstance(model, Autoencoder)
        with progress_bar("fitting the mapping network") as on_progress:
            codes = mean_codes(model.inverter, train_set, chosen_device, config.dtype, on_progress)
        figures = fit_mapping(model.generator, codes)
        console.print("mapping: " + "  ".join(f"{name} {value:.3f}" for name, value in figures.items()))
        export_reconstruction(model, out, **_origin(domain, licence), notes=_notes(data, train_set, loop))
        _tell(out)


@app.command("generator")
def generator(
    data: DataArgument,
    out: OutFlag,
    steps: StepsFlag = 20_000,
    batch: BatchFlag = 32,
    resolution: ResolutionFlag = 128,
    w_dim: WDimFlag = 256,
    mapping_layers: LayersFlag = 4,
    channel_base: BaseFlag = 6144,
    channel_max: MaxFlag = 256,
    init: Annotated[str | None, typer.Option("--init", help="Weights whose generator to start from.")] = None,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Of both networks.")] = 2e-3,
    r1_gamma: Annotated[float | None, typer.Option("--r1-gamma", help="By default StyleGAN2-ADA's rule.")] = None,
    ada: Annotated[bool, typer.Option("--ada/--no-ada", help="Adaptive discriminator augmentation.")] = True,
    domain: DomainFlag = "faces",
    licence: LicenceFlag = "unknown",
    resume: ResumeFlag = False,
    seed: SeedFlag = 0,
    precision: PrecisionFlag = "bf16",
    compile: CompileFlag = True,
    save_seconds: SaveFlag = 120,
    sample_seconds: SampleFlag = 300,
    device: DeviceFlag = "auto",
) -> None:
    """Train a StyleGAN2 generator against a discriminator (non-saturating loss, lazy R1, EMA, ADA)."""
    from stkit.editor import resolve_device
    from stkit.models.discriminator import DiscriminatorConfig
    from stkit.models.stylegan2 import Generator, GeneratorConfig
    from stkit.training.generator import AdversarialConfig, GeneratorRun, export_generator
    from stkit.weights import find_weights

    shape = GeneratorConfig(resolution, w_dim, w_dim, mapping_layers, channel_base, channel_max)
    start = None
    if init is not None:
        first = find_weights(init).generator()
        shape, start = first.config, first.state_dict()
    loop = _loop(out, steps, batch, seed, resume, save_seconds, sample_seconds)
    config = AdversarialConfig(
        shape,
        DiscriminatorConfig(shape.img_resolution, shape.channel_base, shape.channel_max),
        g_learning_rate=learning_rate,
        d_learning_rate=learning_rate,
        r1_gamma=r1_gamma,
        ada_target=0.6 if ada else None,
        dtype=_dtype(precision),
        compile=compile,
    )
    train_set, _ = _image_sets(data, shape.img_resolution)
    run = GeneratorRun(config, loop, train_set, resolve_device(device), start)
    if run.train() == steps:
        averaged = run.ema.model
        assert isinstance(averaged, Generator)
        export_generator(averaged, out, **_origin(domain, licence), notes=_notes(data, train_set, loop))
        _tell(out)


@app.command("inverter")
def inverter(
    data: DataArgument,
    out: OutFlag,
    weights: Annotated[str, typer.Option("--weights", help="Weights whose generator to invert.")] = "faces",
    steps: StepsFlag = 20_000,
    batch: BatchFlag = 8,
    init: Annotated[bool, typer.Option("--init/--fresh", help="Start from the weights' own inverter.")] = False,
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
    from stkit.editor import resolve_device
    from stkit.models.style_transformer import StyleTransformer, StyleTransformerConfig
    from stkit.training.inverter import InverterConfig, InverterRun, export_inverter
    from stkit.weights import find_weights

    found = find_weights(weights)
    chosen_device = resolve_device(device)
    generator = found.generator()
    shape, start = StyleTransformerConfig.small(generator.config), None
    if init:
        first = found.style_transformer()
        shape, start = first.config, first.state_dict()
    loop = _loop(out, steps, batch, seed, resume, save_seconds, sample_seconds)
    config = InverterConfig(
        shape,
        learning_rate=learning_rate,
        l2=l2,
        lpips=lpips,
        identity=identity,
        latent=latent,
        dtype=_dtype(precision),
        compile=compile,
    )
    train_set, val_set = _image_sets(data, shape.input_resolution)
    embedder = load_plugins().domain(found.domain).load_embedder(found.alignment, chosen_device) if identity else None
    run = InverterRun(config, generator, loop, train_set, val_set, chosen_device, embedder, start)
    if run.train() == steps:
        averaged = run.ema.model
        assert isinstance(averaged, StyleTransformer)
        export_inverter(
            averaged,
            out,
            generator=found.fingerprint,
            domain=found.domain,
            alignment=found.alignment,
            licence=found.header.licence,
            notes=_notes(data, train_set, loop),
        )
        shutil.copyfile(found.path("generator"), out / "generator.safetensors")
        _tell(out)


def _loop(
    out: Path, steps: int, batch: int, seed: int, resume: bool, save_seconds: float, sample_seconds: float
) -> LoopConfig:
    from stkit.training.loop import LoopConfig

    return LoopConfig(out, steps, batch, seed, resume, save_seconds, sample_seconds)


def _dtype(precision: str) -> torch.dtype:
    import torch

    names = {"bf16": torch.bfloat16, "fp32": torch.float32}
    if precision not in names:
        raise UsageError(f"precision '{precision}' is not bf16 or fp32")
    return names[precision]


def _image_sets(data: Path, resolution: int) -> tuple[ImageSet, ImageSet]:
    """The splits train and val; without a CSV of splits, the last 4% of the images (at least one) are val."""
    from stkit.training.data import load_train_val

    with progress_bar("reading images") as on_progress:
        train_set, val_set = load_train_val(data, resolution, on_progress)
    broken = len(train_set.broken) + len(val_set.broken)
    console.print(f"{len(train_set)} images to train, {len(val_set)} to validate, {broken} could not be read")
    return train_set, val_set


def _origin(domain: str, licence: str) -> Mapping[str, Any]:
    return {"domain": domain, "alignment": load_plugins().domain(domain).template, "licence": licence}


def _notes(data: Path, train_set: ImageSet, loop: LoopConfig) -> dict[str, Any]:
    return {"data": data.name, "images": len(train_set), "steps": loop.steps, "batch": loop.batch}


def _tell(out: Path) -> None:
    console.print(f"done; use it with --weights {out}")


__all__ = ["app"]
