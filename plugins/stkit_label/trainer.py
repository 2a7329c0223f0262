"""`stkit train classifier`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from stkit.plugin import SILENT, CodesRecipe, Trainer, Voice, flag, setting


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe(CodesRecipe):
    """Train a latent classifier from labelled photos; see `stkit_label.training.ClassifierConfig`."""

    labels: Path = field(metadata=flag("CSV, TSV, CelebA's list or dataset.json."))
    attributes: str = field(metadata=flag("Columns, like age,sex=M,smile: M counts as 1."))
    steps: int = field(default=1500, metadata=flag("Optimiser steps.", least=1))
    batch: int = field(default=128, metadata=flag("Codes a step.", least=2))
    learning_rate: float = field(default=3e-4, metadata=setting("Of AdamW.", least=0))
    weight_decay: float = field(default=0.05, metadata=setting("Of AdamW.", least=0))
    noise: float = field(default=2.0, metadata=setting("On the codes, in their standard deviations.", least=0))


class ClassifierTrainer(Trainer[ClassifierRecipe]):
    """The latent classifier of Hu et al., CVPR 2022, section 3.4."""

    name = "classifier"
    description = "Train the latent classifier that `label` and `reference` edits steer by, from labelled photos."
    Config = ClassifierRecipe

    def train(self, config: ClassifierRecipe, voice: Voice = SILENT) -> object:
        from stkit.plugin import (
            attribute_columns,
            copy_beside,
            find_weights,
            inverted_photos,
            loop_of,
            require_one_process,
            require_room,
            resolve_device,
        )
        from stkit_label.network import LatentClassifierConfig
        from stkit_label.training import ClassifierConfig, ClassifierRun, export_classifier, held_out_figures

        require_one_process("classifier")
        weights, device = find_weights(config.weights), resolve_device(config.device)
        columns = attribute_columns(config.attributes)
        require_room(config.out, "classifier", weights)
        labelled = inverted_photos(config, weights, config.labels, columns, device, voice)
        shape = LatentClassifierConfig.for_codes(labelled.attributes, weights.num_ws, weights.w_dim)
        settings = ClassifierConfig(shape, config.learning_rate, config.weight_decay, config.noise)
        run = ClassifierRun(settings, loop_of(config), labelled, device)
        if run.train() != config.steps:
            return False
        figures = held_out_figures(run.averaged.cpu(), labelled, run.targets)
        for name, values in figures.items():
            voice.say(
                f"{name}: accuracy {values['accuracy']:.3f} (the larger class {values['majority']:.3f}), correlation "
                f"{values['correlation']:.3f} on {values['photos']} held-out photos"
            )
        notes = {
            "data": config.images.name,
            "photos": int((~labelled.val).sum()),
            "steps": config.steps,
            "inverter": config.inverter or weights.own_inverter(),
            "targets": {
                name: dataclasses.asdict(target) for name, target in zip(labelled.attributes, run.targets, strict=True)
            },
            "positive": {name: positive for name, positive in columns if positive},
            "held_out": figures,
        }
        export_classifier(run.averaged, config.out, weights, notes)
        copy_beside(weights, config.out, "classifier")
        voice.say(f"done; use it with --weights {config.out}")
        return True


__all__ = ["ClassifierRecipe", "ClassifierTrainer"]
