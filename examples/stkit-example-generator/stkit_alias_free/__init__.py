"""An example plugin of stkit: a generator architecture, its checkpoints and its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stkit.plugin import Architecture, CheckpointFamily, Trainer, hookimpl
from stkit_alias_free.config import AliasFreeConfig

if TYPE_CHECKING:
    from stkit.plugin import Checkpoint, Generator, Recognised


class AliasFreeArchitecture(Architecture):
    name = "tiny-alias-free"
    description = "a small relative of StyleGAN3: Fourier features, 16 rows at any resolution, no noise"

    def config(self, values: Mapping[str, Any]) -> AliasFreeConfig:
        return AliasFreeConfig(**values)

    def build(self, config: AliasFreeConfig) -> Generator:
        from stkit_alias_free.generator import AliasFree

        return AliasFree(config)


@hookimpl
def register_generators() -> list[Architecture]:
    return [AliasFreeArchitecture()]


class AliasFreeCheckpoints(CheckpointFamily):
    name = "tiny-alias-free"
    description = "what the script of another project saves: {alias_free: its settings, G: a state}"

    def recognise(self, checkpoint: Checkpoint) -> Recognised | None:
        from stkit_alias_free.checkpoint import recognise

        return recognise(checkpoint)


@hookimpl
def register_checkpoints() -> list[CheckpointFamily]:
    return [AliasFreeCheckpoints()]


@hookimpl
def register_trainers() -> list[Trainer]:
    from stkit_alias_free.trainer import AliasFreeTrainer

    return [AliasFreeTrainer()]
