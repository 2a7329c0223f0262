"""`stkit train reference`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stkit.plugin import SILENT, CodesRecipe, Trainer, UsageError, Voice, flag, setting

if TYPE_CHECKING:
    import torch

    from stkit.plugin import LabelledCodes
    from stkit_reference.training import ReferenceRun


@dataclass(frozen=True, kw_only=True)
class ReferenceRecipe(CodesRecipe):
    """Train a reference block by the weights' classifier; see `stkit_reference.training.ReferenceConfig`."""

    attributes: str = field(metadata=flag("Of the weights' classifier, like age,smile."))
    learning_rate: float = field(default=1e-4, metadata=setting("Of Adam.", least=0))


class ReferenceTrainer(Trainer[ReferenceRecipe]):
    """The reference block of Hu et al., CVPR 2022."""

    name = "reference"
    description = "Train the block that `reference` edits carry attributes over with; the weights need a classifier."
    Config = ReferenceRecipe

    def train(self, config: ReferenceRecipe, voice: Voice = SILENT) -> object:
        from stkit_label.codes import training_codes
        from stkit_label.network import load_classifier

        from stkit.plugin import attribute_columns, find_weights, load_header, loop_of, train_on_codes
        from stkit_reference.network import ReferenceBlockConfig
        from stkit_reference.training import ReferenceConfig, ReferenceRun

        weights = find_weights(config.weights)
        names = []
        for name, positive in attribute_columns(config.attributes):
            if positive:
                raise UsageError(f"attribute '{name}={positive}': the classifier knows what counts as 1; give '{name}'")
            names.append(name)
        classifier = load_classifier(weights)

        def begin(photos: LabelledCodes, device: torch.device) -> ReferenceRun:
            shape = ReferenceBlockConfig.for_codes(tuple(names), weights.num_ws, weights.w_dim)
            settings = ReferenceConfig(shape, config.learning_rate)
            codes, val_codes = photos.codes[~photos.val], photos.codes[photos.val]
            return ReferenceRun(settings, classifier, loop_of(config), codes, val_codes, device)

        def gather(device: torch.device) -> LabelledCodes:
            return training_codes(config, weights, [], None, device, voice)

        notes = {"classifier": load_header(weights.path("classifier")).fingerprint}
        return train_on_codes("reference", config, weights, gather, begin, notes, voice)


__all__ = ["ReferenceRecipe", "ReferenceTrainer"]
