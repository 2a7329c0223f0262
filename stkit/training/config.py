"""What a training can be told: one frozen dataclass a recipe, without torch; `stkit train` fills them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stkit.contracts.training import SILENT, Voice, argument, flag, no_bar, setting


@dataclass(frozen=True, kw_only=True)
class LoopRecipe:
    """How any run goes: see `stkit.training.loop.LoopConfig`."""

    resume: bool = field(default=False, metadata=flag("Go on from the checkpoint that the run has left."))
    seed: int = field(default=0, metadata=flag("Of all randomness of the run."))
    device: str = field(default="auto", metadata=flag("auto, cpu, cuda or mps."))
    save_seconds: float = field(default=120, metadata=setting("Between checkpoints.", least=0))
    sample_seconds: float = field(default=300, metadata=setting("Between sample grids with validation.", least=0))


@dataclass(frozen=True)
class RunConfig(LoopRecipe):
    """What every run on images shares: `data` (an archive or a folder of aligned images) goes in, weights come `out`.

    `batch` images go into each of the `steps`. A run with `resume` goes on from the checkpoint in `out`, which is
    written every `save_seconds`; sample grids are every `sample_seconds`. `precision` is "auto" (bf16 where it is
    native), "bf16" or "fp32"; `device` "auto", "cpu", "cuda" or "mps".
    """

    data: Path = field(metadata=argument("A folder or an archive of aligned images, a CSV with splits beside it."))
    out: Path = field(metadata=flag("The run's folder: checkpoint, log, samples, and the weights."))
    steps: int = field(default=3000, metadata=flag("Optimiser steps.", least=1))
    batch: int = field(default=32, metadata=flag("Images a step.", least=2))
    precision: Literal["auto", "bf16", "fp32"] = field(
        default="auto", metadata=setting("auto (bf16 where it is native), bf16 or fp32.")
    )


@dataclass(frozen=True)
class ImageRunConfig(RunConfig):
    """A run that trains a StyleGAN2 generator on images, from the weights `init` on or in the given shape.

    `domain` is what the images show, by default what `init` is for, else faces; `licence` is by default that of `init`.
    """

    resolution: int = field(default=128, metadata=flag("Of the generator, a power of two.", least=16, most=1024))
    w_dim: int = field(default=256, metadata=setting("Width of z and w.", least=1))
    mapping_layers: int = field(default=4, metadata=setting("Layers of the mapping network.", least=2, most=8))
    channel_base: int = field(default=6144, metadata=setting("Channels are this over the resolution, ...", least=16))
    channel_max: int = field(default=256, metadata=setting("... but at most this.", least=1))
    init: str | None = field(default=None, metadata=flag("Weights whose networks to start from."))
    domain: str | None = field(
        default=None, metadata=flag("What the images show; by default what --init is for, else faces.")
    )
    licence: str | None = field(default=None, metadata=flag("Written into the weights; by default that of --init."))
    compile: bool = field(default=True, metadata=setting("Use torch.compile: slow start, fast steps."))


@dataclass(frozen=True)
class ReconstructionRecipe(ImageRunConfig):
    """Train a generator and its inverter together; see `stkit.training.reconstruction.ReconstructionConfig`.

    The generator learns at `generator_rate` times the learning rate: 5 by default, 1 from `init` on.
    """

    learning_rate: float = field(default=1e-3, metadata=setting("Of both networks.", least=0))
    generator_rate: float | None = field(
        default=None, metadata=setting("The generator's, as a multiple of it: 5, with --init 1.", least=0.01)
    )
    grow_from: int | None = field(
        default=None, metadata=setting("Resolution to start at; it doubles up to --resolution.", least=8)
    )
    input_resolution: int | None = field(
        default=None, metadata=setting("What the inverter sees; the resolution, or --init's.", least=32)
    )
    lpips: float = field(default=0.8, metadata=setting("Weight of LPIPS-Alex.", least=0))
    mean_share: float = field(
        default=0.25, metadata=setting("Of each batch, rendered from its mean w.", least=0, most=1)
    )


@dataclass(frozen=True)
class GeneratorRecipe(ImageRunConfig):
    """Train a generator against a discriminator, "stylegan2" or "projected"; see `AdversarialConfig`.

    `keep` is the weight of what the inverter of `init` reconstructs; `r1_gamma` is by default StyleGAN2-ADA's rule.
    """

    steps: int = field(default=20_000, metadata=flag("Optimiser steps.", least=1))
    learning_rate: float = field(default=2e-3, metadata=setting("Of both networks.", least=0))
    r1_gamma: float | None = field(default=None, metadata=setting("By default StyleGAN2-ADA's rule.", least=0))
    discriminator: Literal["stylegan2", "projected"] = field(
        default="stylegan2", metadata=setting("stylegan2 or projected.")
    )
    warmup: int = field(
        default=0, metadata=setting("Steps at the start in which the discriminator alone learns.", least=0)
    )
    keep: float | None = field(
        default=None, metadata=setting("Keep what --init's inverter reconstructs: the weight of MSE + LPIPS.", least=0)
    )
    ada: bool | None = field(
        default=None, metadata=setting("Adaptive augmentation, by default for the discriminator stylegan2.")
    )


@dataclass(frozen=True)
class MappingRecipe(RunConfig):
    """Train a new mapping network of 3 to 8 layers for the weights `init`, which gives codes like those of photos."""

    steps: int = field(default=5000, metadata=flag("Optimiser steps.", least=1))
    batch: int = field(default=256, metadata=flag("Codes a step.", least=2))
    save_seconds: float = field(default=60, kw_only=True, metadata=setting("Between checkpoints.", least=0))
    sample_seconds: float = field(default=60, kw_only=True, metadata=setting("Between validations.", least=0))
    init: str = field(kw_only=True, metadata=flag("Weights whose mapping network to replace."))
    mapping_layers: int = field(default=6, metadata=setting("Layers of the new mapping network.", least=3, most=8))


@dataclass(frozen=True)
class InverterRunConfig(RunConfig):
    """What trains inverters for the generator of `weights`; see `stkit.training.inverter.InverterConfig`."""

    weights: str = field(default="faces", metadata=flag("Weights whose generator to invert."))
    steps: int = field(default=20_000, metadata=flag("Optimiser steps.", least=1))
    batch: int = field(default=8, metadata=flag("Images a step.", least=2))
    learning_rate: float = field(default=1e-4, metadata=setting("Of the inverter.", least=0))
    l2: float = field(default=1.0, metadata=setting("Weight of the L2 loss; 0 leaves it out.", least=0))
    lpips: float = field(default=0.8, metadata=setting("Weight of LPIPS-Alex.", least=0))
    identity: float = field(
        default=0.1,
        metadata=setting("Weight of the identity loss: the domain's network, else lite0's features.", least=0),
    )
    latent: float = field(default=0.0, metadata=setting("Share of steps on samples with known codes.", least=0, most=1))
    augment: float = field(
        default=0.0,
        metadata=setting("How often a photo is moved, and how often changed in colour, a little.", least=0, most=1),
    )
    compile: bool = field(default=True, metadata=setting("Use torch.compile: slow start, fast steps."))


@dataclass(frozen=True)
class InverterRecipe(InverterRunConfig):
    """Train one inverter."""

    architecture: Literal["style-transformer", "psp", "e4e", "restyle"] = field(
        default="style-transformer",
        metadata=flag("style-transformer, psp, e4e or restyle, in about the same small size."),
    )
    init: str | None = field(default=None, metadata=flag("Weights whose inverter to start from."))
    backbone: Literal["ir-se", "lite0"] = field(
        default="ir-se", metadata=setting("Of a Style Transformer: ir-se, or lite0 with its ImageNet weights.")
    )
    input_resolution: int | None = field(
        default=None,
        metadata=setting("What it sees; by default --init's, else at most 256.", least=32),
    )
    linear_rank: int = field(
        default=0, metadata=setting("Rank of a linear map beside a Style Transformer's queries; 0: none.", least=0)
    )
    linear_samples: int = field(
        default=8_000, metadata=setting("The generator's samples that the linear map is fitted on.", least=64)
    )
    int8: bool = field(default=False, metadata=setting("Store the inverter in 8 bits: half the size."))


@dataclass(frozen=True)
class RivalsRecipe(InverterRunConfig):
    """Train an inverter of each of the `architectures` alike: the same images in the same order, losses and optimiser.

    ReStyle, whose step takes 3 passes through encoder and generator, gets a third of the steps. With `runs` each of
    them as often, by the seeds from `seed` on. One after the other, in folders of `out`.
    """

    architectures: str = field(
        default="style-transformer,psp,e4e,restyle", metadata=flag("Which, with commas between.")
    )
    runs: int = field(default=1, metadata=flag("Trainings of each, from this many seeds.", least=1))


@dataclass(frozen=True, kw_only=True)
class CodesRecipe(LoopRecipe):
    """What trainings on codes share: `images` inverted with the `weights`, `samples` of their generator, or both.

    The weights get one more part.
    """

    images: Path | None = field(default=None, metadata=flag("A folder or an archive of images."))
    samples: int | None = field(
        default=None, metadata=flag("So many of the generator's own images, beside --images or without.", least=100)
    )
    labels: Path | None = field(default=None, metadata=flag("Which photos to take, with their splits; all by default."))
    attributes: str = field(metadata=flag("Columns of the labels, with commas between."))
    out: Path = field(metadata=flag("The run's folder: checkpoint, log, and the weights."))
    weights: str = field(default="faces", metadata=flag("Weights whose generator and inverter to use."))
    steps: int = field(default=3000, metadata=flag("Optimiser steps.", least=1))
    batch: int = field(default=64, metadata=flag("Codes a step.", least=2))
    inverter: str | None = field(
        default=None, metadata=flag("How to invert; with the weights' own encoder by default.")
    )
    aligned: bool = field(
        default=True,
        metadata=flag("The images are crops framed like the weights' training data.", names="--aligned/--photos"),
    )
    save_seconds: float = field(default=60, metadata=setting("Between checkpoints.", least=0))
    sample_seconds: float = field(default=60, metadata=setting("Between validations.", least=0))


@dataclass(frozen=True)
class DomainRecipe(LoopRecipe):
    """Train everything for a folder or an archive of `photos`: weights called `name`, which `find_weights(name)` finds.

    `domain` aligns the photos, unless they are `aligned` already. `steps` of reconstruction are followed by
    `mapping_steps` that make samples look like the photos, and by `sharpen` steps against a discriminator. The rest is
    as in `ImageRunConfig`.
    """

    photos: Path = field(metadata=argument("A folder or an archive of photos, as they are."))
    name: str = field(metadata=flag("What the weights will be called."))
    domain: str = field(default="plain", metadata=flag("Who aligns the photos; see `stkit domains`."))
    aligned: bool = field(default=False, metadata=flag("The photos are aligned for the domain already."))
    resolution: int = field(default=128, metadata=flag("Of the generator, a power of two.", least=16, most=1024))
    steps: int = field(default=3000, metadata=flag("Optimiser steps.", least=1))
    mapping_steps: int = field(
        default=5000, metadata=setting("Steps after them that make samples look like the photos.", least=0)
    )
    sharpen: int = field(
        default=0, metadata=flag("Steps after those that make samples and reconstructions sharper.", least=0)
    )
    batch: int = field(default=32, metadata=flag("Images a step.", least=2))
    w_dim: int = field(default=256, metadata=setting("Width of z and w.", least=1))
    mapping_layers: int = field(default=6, metadata=setting("Layers of the mapping network.", least=2, most=8))
    channel_base: int = field(default=6144, metadata=setting("Channels are this over the resolution, ...", least=16))
    channel_max: int = field(default=256, metadata=setting("... but at most this.", least=1))
    licence: str = field(default="unknown", metadata=flag("Written into the weights."))
    precision: Literal["auto", "bf16", "fp32"] = field(
        default="auto", metadata=setting("auto (bf16 where it is native), bf16 or fp32.")
    )
    compile: bool = field(default=True, metadata=setting("Use torch.compile: slow start, fast steps."))


__all__ = [
    "SILENT",
    "CodesRecipe",
    "DomainRecipe",
    "GeneratorRecipe",
    "ImageRunConfig",
    "InverterRecipe",
    "InverterRunConfig",
    "LoopRecipe",
    "MappingRecipe",
    "ReconstructionRecipe",
    "RivalsRecipe",
    "RunConfig",
    "Voice",
    "no_bar",
]
