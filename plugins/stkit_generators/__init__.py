"""The generator architectures that stkit brings, StyleGAN2 and its mobile student, and the trainings of generators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stkit.plugin import Architecture, MobileStyleGANConfig, StyleGAN2Config, Trainer, hookimpl

if TYPE_CHECKING:
    from stkit.plugin import Checkpoint, Generator, Recognised


class StyleGAN2Architecture(Architecture):
    """Karras et al., CVPR 2020: the skip generator of config-f."""

    name = "stylegan2"
    description = "StyleGAN2, skip generator (Karras et al., CVPR 2020)"

    def config(self, values: Mapping[str, Any]) -> StyleGAN2Config:
        return StyleGAN2Config(**values)

    def build(self, config: StyleGAN2Config) -> Generator:
        from stkit.plugin import StyleGAN2

        return StyleGAN2(config)


class MobileStyleGANArchitecture(Architecture):
    """Belousov, arXiv 2104.04767: a student that synthesises wavelets."""

    name = "mobile-stylegan"
    description = "MobileStyleGAN, a small wavelet student of StyleGAN2 (Belousov 2021)"

    def config(self, values: Mapping[str, Any]) -> MobileStyleGANConfig:
        return MobileStyleGANConfig(**{**values, "channels": tuple(values["channels"])})

    def build(self, config: MobileStyleGANConfig) -> Generator:
        from stkit.plugin import MobileStyleGAN

        return MobileStyleGAN(config)

    def recognise(self, checkpoint: Checkpoint) -> Recognised | None:
        """The pair of OpenVINO networks that the paper's author published."""
        from stkit.plugin import recognise_mobile_stylegan

        return recognise_mobile_stylegan(checkpoint)


@hookimpl
def register_generators() -> list[Architecture]:
    return [StyleGAN2Architecture(), MobileStyleGANArchitecture()]


@hookimpl
def register_trainers() -> list[Trainer]:
    from stkit_generators.trainers import DomainTrainer, GeneratorTrainer, MappingTrainer, ReconstructionTrainer

    return [DomainTrainer(), ReconstructionTrainer(), MappingTrainer(), GeneratorTrainer()]


__all__ = ["MobileStyleGANArchitecture", "StyleGAN2Architecture", "register_generators", "register_trainers"]
