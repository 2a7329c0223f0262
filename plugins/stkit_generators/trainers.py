"""The trainings of generators, and of all that a domain needs."""

from __future__ import annotations

from typing import Any, ClassVar

import stkit.plugin
from stkit.plugin import SILENT, DomainRecipe, GeneratorRecipe, MappingRecipe, ReconstructionRecipe, Trainer, Voice


class RecipeTrainer(Trainer[Any]):
    """What `recipe`, a function of `stkit.plugin`, trains by its Config."""

    recipe: ClassVar[str]

    def train(self, config: Any, voice: Voice = SILENT) -> object:
        return getattr(stkit.plugin, self.recipe)(config, voice)


class DomainTrainer(RecipeTrainer):
    """From a folder of photos to weights that `--weights NAME` finds."""

    name = "domain"
    description = "Train everything for photos of your own: generator, inverter and what methods need without labels."
    Config, recipe = DomainRecipe, "train_domain"


class ReconstructionTrainer(RecipeTrainer):
    """Generator and Style Transformer as one autoencoder."""

    name = "reconstruction"
    description = "Train a generator and its inverter together by reconstruction: the quickest start, also on a CPU."
    Config, recipe = ReconstructionRecipe, "train_reconstruction"


class MappingTrainer(RecipeTrainer):
    """A mapping network against a critic of codes."""

    name = "mapping"
    description = "Make samples look like photos: a new mapping network, which gives codes like those of the photos."
    Config, recipe = MappingRecipe, "train_mapping"


class GeneratorTrainer(RecipeTrainer):
    """StyleGAN2-ADA (Karras et al. 2020), or a projected GAN (Sauer et al. 2021)."""

    name = "generator"
    description = "Train a StyleGAN2 generator against a discriminator: StyleGAN2's own with ADA, or a projected one."
    Config, recipe = GeneratorRecipe, "train_generator"


__all__ = ["DomainTrainer", "GeneratorTrainer", "MappingTrainer", "RecipeTrainer", "ReconstructionTrainer"]
