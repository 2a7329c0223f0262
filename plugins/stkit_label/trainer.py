"""`stkit train classifier`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stkit.plugin import SILENT, CodesRecipe, Trainer, Voice, flag, setting

if TYPE_CHECKING:
    import torch

    from stkit.plugin import LabelledCodes
    from stkit_label.training import ClassifierRun


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe(CodesRecipe):
    """Train a latent classifier from labelled photos or scored samples; see `stkit_label.training.ClassifierConfig`."""

    labels: Path | None = field(
        default=None, metadata=flag("Of the images: CSV, TSV, CelebA's list, JSON, or an archive with labels in it.")
    )
    scorer: str | None = field(
        default=None, metadata=flag("Labels the samples: one, or several with commas; see `stkit scorers`.")
    )
    attributes: str = field(metadata=flag("Columns, like age,sex=M,smile: M counts as 1. Of samples, the scores."))
    components: int | None = field(
        default=None,
        metadata=setting("Principal components of the codes that it sees; all numbers by default.", least=1),
    )
    steps: int = field(default=1500, metadata=flag("Optimiser steps.", least=1))
    batch: int = field(default=128, metadata=flag("Codes a step.", least=2))
    learning_rate: float = field(default=3e-4, metadata=setting("Of AdamW.", least=0))
    weight_decay: float = field(default=0.05, metadata=setting("Of AdamW.", least=0))
    noise: float = field(default=2.0, metadata=setting("On the codes, in their standard deviations.", least=0))


class ClassifierTrainer(Trainer[ClassifierRecipe]):
    """The latent classifier of Hu et al., CVPR 2022, section 3.4."""

    name = "classifier"
    description = (
        "Train the latent classifier of `label` and `reference` edits, from labelled photos or scored samples."
    )
    Config = ClassifierRecipe

    def train(self, config: ClassifierRecipe, voice: Voice = SILENT) -> object:
        from stkit.plugin import attribute_columns, find_weights, loop_of, train_on_codes
        from stkit_label.codes import training_codes
        from stkit_label.network import LatentClassifierConfig
        from stkit_label.training import ClassifierConfig, ClassifierRun

        weights = find_weights(config.weights)
        columns = attribute_columns(config.attributes)

        def begin(labelled: LabelledCodes, device: torch.device) -> ClassifierRun:
            sizes = weights.num_ws, weights.w_dim, config.components
            shape = LatentClassifierConfig.for_codes(labelled.attributes, *sizes)
            settings = ClassifierConfig(shape, config.learning_rate, config.weight_decay, config.noise)
            return ClassifierRun(settings, loop_of(config), labelled, device)

        def gather(device: torch.device) -> LabelledCodes:
            return training_codes(config, weights, columns, config.scorer, device, voice)

        notes: dict[str, object] = {"positive": {name: word for name, word in columns if word}}
        if config.samples:
            notes["scorer"] = config.scorer
        return train_on_codes("classifier", config, weights, gather, begin, notes, voice)


__all__ = ["ClassifierRecipe", "ClassifierTrainer"]
