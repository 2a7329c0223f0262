"""The trainings of generators, and of all that a domain needs."""

from __future__ import annotations

from stkit.plugin import SILENT, DomainRecipe, GeneratorRecipe, MappingRecipe, ReconstructionRecipe, Trainer, Voice


class DomainTrainer(Trainer[DomainRecipe]):
    """`stkit.training.pipeline`: from a folder of photos to weights that `--weights NAME` finds."""

    name = "domain"
    description = "Train everything for photos of your own: generator, inverter and what methods need without labels."
    Config = DomainRecipe

    def train(self, config: DomainRecipe, voice: Voice = SILENT) -> object:
        from stkit.plugin import train_domain

        return train_domain(config, voice)


class ReconstructionTrainer(Trainer[ReconstructionRecipe]):
    """Generator and Style Transformer as one autoencoder."""

    name = "reconstruction"
    description = "Train a generator and its inverter together by reconstruction: the quickest start, also on a CPU."
    Config = ReconstructionRecipe

    def train(self, config: ReconstructionRecipe, voice: Voice = SILENT) -> object:
        from stkit.plugin import train_reconstruction

        return train_reconstruction(config, voice)


class MappingTrainer(Trainer[MappingRecipe]):
    """A mapping network against a critic of codes."""

    name = "mapping"
    description = "Make samples look like photos: a new mapping network, which gives codes like those of the photos."
    Config = MappingRecipe

    def train(self, config: MappingRecipe, voice: Voice = SILENT) -> object:
        from stkit.plugin import train_mapping

        return train_mapping(config, voice)


class GeneratorTrainer(Trainer[GeneratorRecipe]):
    """StyleGAN2-ADA (Karras et al. 2020), or a projected GAN (Sauer et al. 2021)."""

    name = "generator"
    description = "Train a StyleGAN2 generator against a discriminator: StyleGAN2's own with ADA, or a projected one."
    Config = GeneratorRecipe

    def train(self, config: GeneratorRecipe, voice: Voice = SILENT) -> object:
        from stkit.plugin import train_generator

        return train_generator(config, voice)


__all__ = ["DomainTrainer", "GeneratorTrainer", "MappingTrainer", "ReconstructionTrainer"]
