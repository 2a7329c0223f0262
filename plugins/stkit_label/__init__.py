"""Label editing of the Style Transformer paper (Hu et al., CVPR 2022) as a plugin."""

from __future__ import annotations

from collections.abc import Sequence

from stkit.plugin import EditingMethod, Scorer, Trainer, hookimpl


@hookimpl
def register_editing_methods() -> Sequence[EditingMethod]:
    """The one method of this package."""
    from stkit_label.method import LabelEditing

    return [LabelEditing()]


@hookimpl
def register_trainers() -> Sequence[Trainer]:
    """The training of its classifier."""
    from stkit_label.trainer import ClassifierTrainer

    return [ClassifierTrainer()]


@hookimpl
def register_scorers() -> Sequence[Scorer]:
    """Its classifier as a judge of another generator's samples."""
    from stkit_label.scorer import ClassifierScorer

    return [ClassifierScorer()]


__all__ = ["register_editing_methods", "register_scorers", "register_trainers"]
