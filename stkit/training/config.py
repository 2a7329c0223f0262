"""What a training can be told: one frozen dataclass a recipe, without torch. `stkit train` makes them of its flags."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stkit.contracts.inversion import ignore_progress


@dataclass(frozen=True)
class RunConfig:
    """What every run shares: `data` (a zip or a folder of aligned images) goes in, weights come `out`.

    `batch` images go into each of the `steps`. A run with `resume` goes on from the checkpoint in `out`, which is
    written every `save_seconds`; sample grids are every `sample_seconds`. `precision` is "auto" (bf16 where it is
    native), "bf16" or "fp32"; `device` "auto", "cpu", "cuda" or "mps".
    """

    data: Path
    out: Path
    steps: int = 3000
    batch: int = 32
    resume: bool = False
    seed: int = 0
    precision: str = "auto"
    save_seconds: float = 120
    sample_seconds: float = 300
    device: str = "auto"


@dataclass(frozen=True)
class ImageRunConfig(RunConfig):
    """A run that trains a StyleGAN2 generator on images, from the weights `init` on or in the given shape.

    `domain` is what the images show, by default what `init` is for, else faces; `licence` is by default that of `init`.
    """

    resolution: int = 128
    w_dim: int = 256
    mapping_layers: int = 4
    channel_base: int = 6144
    channel_max: int = 256
    init: str | None = None
    domain: str | None = None
    licence: str | None = None
    compile: bool = True


@dataclass(frozen=True)
class ReconstructionRecipe(ImageRunConfig):
    """Train a generator and its inverter together; see `stkit.training.reconstruction.ReconstructionConfig`.

    The generator learns at `generator_rate` times the learning rate: 5 by default, 1 from `init` on.
    """

    learning_rate: float = 1e-3
    generator_rate: float | None = None
    grow_from: int | None = None
    input_resolution: int | None = None
    lpips: float = 0.8
    mean_share: float = 0.25


@dataclass(frozen=True)
class GeneratorRecipe(ImageRunConfig):
    """Train a generator against a discriminator, "stylegan2" or "projected"; see `AdversarialConfig`.

    `keep` is the weight of what the inverter of `init` reconstructs; `r1_gamma` is by default StyleGAN2-ADA's rule.
    """

    steps: int = 20_000
    learning_rate: float = 2e-3
    r1_gamma: float | None = None
    discriminator: str = "stylegan2"
    warmup: int = 0
    keep: float | None = None
    ada: bool = True


@dataclass(frozen=True)
class MappingRecipe(RunConfig):
    """Train a new mapping network of 3 to 8 layers for the weights `init`, which gives codes like those of photos."""

    steps: int = 5000
    batch: int = 256
    save_seconds: float = 60
    sample_seconds: float = 60
    init: str = field(kw_only=True)
    mapping_layers: int = 6


@dataclass(frozen=True)
class DomainRecipe:
    """Train everything for a folder or a zip of `photos`: weights called `name`, which `find_weights(name)` finds.

    `domain` aligns the photos, unless they are `aligned` already. `steps` of reconstruction are followed by
    `mapping_steps` that make samples look like the photos, and by `sharpen` steps against a discriminator. The rest is
    as in `ImageRunConfig`.
    """

    photos: Path
    name: str
    domain: str = "plain"
    aligned: bool = False
    resolution: int = 128
    steps: int = 3000
    mapping_steps: int = 5000
    sharpen: int = 0
    batch: int = 32
    w_dim: int = 256
    mapping_layers: int = 6
    channel_base: int = 6144
    channel_max: int = 256
    licence: str = "unknown"
    resume: bool = False
    seed: int = 0
    precision: str = "auto"
    compile: bool = True
    save_seconds: float = 120
    sample_seconds: float = 300
    device: str = "auto"


@contextmanager
def no_bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that nobody sees."""
    yield ignore_progress


@dataclass(frozen=True)
class Voice:
    """Where a recipe says how far it is: `say` gets lines, `bar` makes a progress bar that takes (done, total)."""

    say: Callable[[str], None] = lambda line: None
    bar: Callable[[str], AbstractContextManager[Callable[[int, int], None]]] = no_bar


SILENT = Voice()

__all__ = [
    "SILENT",
    "DomainRecipe",
    "GeneratorRecipe",
    "ImageRunConfig",
    "MappingRecipe",
    "ReconstructionRecipe",
    "RunConfig",
    "Voice",
    "no_bar",
]
