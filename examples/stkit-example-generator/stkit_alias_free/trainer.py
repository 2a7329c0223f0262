"""`stkit train alias-free`: what it can be told."""

from __future__ import annotations

from dataclasses import dataclass, field

from stkit.plugin import SILENT, RunConfig, Trainer, Voice, flag, setting


@dataclass(frozen=True)
class AliasFreeRecipe(RunConfig):
    """What `RunConfig` has (data, out, steps, batch, ...), and this."""

    domain: str = field(default="plain", metadata=flag("What the images show; see `stkit domains`."))
    resolution: int = field(default=64, metadata=flag("Of the generator, a power of two.", least=16, most=256))
    channels: int = field(default=32, metadata=setting("Of every layer.", least=4))
    learning_rate: float = field(default=1e-3, metadata=setting("Of generator and codes, by Adam.", least=0))


class AliasFreeTrainer(Trainer[AliasFreeRecipe]):
    """Generative Latent Optimization (Bojanowski et al., ICML 2018)."""

    name = "alias-free"
    description = "Train the example's generator: every image has a code, and both learn together (GLO)."
    Config = AliasFreeRecipe

    def train(self, config: AliasFreeRecipe, voice: Voice = SILENT) -> object:
        from stkit_alias_free.training import train_alias_free

        return train_alias_free(config, voice)
