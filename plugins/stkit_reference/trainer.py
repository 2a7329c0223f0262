"""`stkit train reference`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stkit.plugin import SILENT, CodesRecipe, Trainer, UsageError, Voice, flag, setting


@dataclass(frozen=True, kw_only=True)
class ReferenceRecipe(CodesRecipe):
    """Train a reference block by the weights' classifier; see `stkit_reference.training.ReferenceConfig`."""

    attributes: str = field(metadata=flag("Of the weights' classifier, like age,smile."))
    labels: Path | None = field(default=None, metadata=flag("Which photos to take, with their splits; all by default."))
    learning_rate: float = field(default=1e-4, metadata=setting("Of Adam.", least=0))


class ReferenceTrainer(Trainer[ReferenceRecipe]):
    """The reference block of Hu et al., CVPR 2022."""

    name = "reference"
    description = "Train the block that `reference` edits carry attributes over with; the weights need a classifier."
    Config = ReferenceRecipe

    def train(self, config: ReferenceRecipe, voice: Voice = SILENT) -> object:
        from stkit_label.network import load_classifier

        from stkit.plugin import (
            attribute_columns,
            copy_beside,
            find_weights,
            inverted_photos,
            load_header,
            loop_of,
            require_one_process,
            require_room,
            resolve_device,
        )
        from stkit_reference.network import ReferenceBlockConfig
        from stkit_reference.training import ReferenceConfig, ReferenceRun, export_reference, transfer_figures

        require_one_process("reference")
        weights, device = find_weights(config.weights), resolve_device(config.device)
        names = []
        for name, positive in attribute_columns(config.attributes):
            if positive:
                raise UsageError(f"attribute '{name}={positive}': the classifier knows what counts as 1; give '{name}'")
            names.append(name)
        classifier = load_classifier(weights)
        require_room(config.out, "reference", weights)
        photos = inverted_photos(config, weights, config.labels, [], device, voice)
        shape = ReferenceBlockConfig.for_codes(tuple(names), weights.num_ws, weights.w_dim)
        settings = ReferenceConfig(shape, config.learning_rate)
        val_codes = photos.codes[photos.val]
        run = ReferenceRun(settings, classifier, loop_of(config), photos.codes[~photos.val], val_codes, device)
        if run.train() != config.steps:
            return False
        block = run.averaged.cpu()
        figures = transfer_figures(block, classifier, val_codes)
        for name, values in figures.items():
            voice.say(
                f"{name}: {100 * values['transfer']:.0f}% of the way to the reference, others moved by "
                f"{values['drift']:.2f} standard deviations, on {len(val_codes)} held-out pairs, says the classifier"
            )
        notes = {
            "data": config.images.name,
            "photos": int((~photos.val).sum()),
            "steps": config.steps,
            "inverter": config.inverter or weights.own_inverter(),
            "classifier": load_header(weights.path("classifier")).fingerprint,
            "held_out": figures,
        }
        export_reference(block, config.out, weights, notes)
        copy_beside(weights, config.out, "reference")
        voice.say(f"done; use it with --weights {config.out}")
        return True


__all__ = ["ReferenceRecipe", "ReferenceTrainer"]
