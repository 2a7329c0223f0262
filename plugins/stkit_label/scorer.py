"""Scores by the latent classifier of other weights, to fit directions for a generator that has no labels of its own."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import pydantic

from stkit.plugin import Options, Scorer

if TYPE_CHECKING:
    import numpy as np
    import torch

    from stkit.plugin import Editor


class ClassifierOptions(Options):
    """Options of latent-classifier."""

    weights: str = pydantic.Field(default="faces", description="whose inverter and classifier look at the images")


class ClassifierScorer(Scorer[ClassifierOptions]):
    """The logits of a latent classifier, of the largest subject of each image.

    The subject is found, framed as those weights want it, inverted and classified: age, sex, smile and yaw for `faces`.
    """

    name = "latent-classifier"
    description = "the attributes of other weights' latent classifier: age, sex, smile, yaw by those of faces"
    domains = ("faces",)
    Options = ClassifierOptions

    def score(self, images: torch.Tensor, options: ClassifierOptions) -> dict[str, np.ndarray]:
        """float64 [B] each, NaN where no subject is found. Raises WeightsError for weights without a classifier."""
        import numpy as np
        import torch

        from stkit.plugin import SubjectError, frame_largest, to_image, to_tensor
        from stkit_label.network import load_classifier

        editor = _editor(options.weights)
        classifier = load_classifier(editor.weights, editor.device)
        framing = editor.weights.alignment, editor.weights.resolution
        values = np.full((len(images), len(classifier.config.attributes)), np.nan)
        for row, image in enumerate(images):
            try:
                crop = frame_largest(to_image(image), editor.domain, *framing, quickly=True)
            except SubjectError:
                continue
            codes = editor.invert_crops(to_tensor(crop)).codes
            with torch.inference_mode():
                values[row] = classifier(codes)[0].cpu().numpy()
        return dict(zip(classifier.config.attributes, values.T, strict=True))


@lru_cache(maxsize=1)
def _editor(weights: str) -> Editor:
    import stkit

    return stkit.load(stkit.find_weights(weights))


__all__ = ["ClassifierOptions", "ClassifierScorer"]
