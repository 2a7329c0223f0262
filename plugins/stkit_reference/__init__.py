"""Reference editing of the Style Transformer paper (Hu et al., CVPR 2022) as a plugin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stkit.plugin import CheckpointFamily, EditingMethod, Trainer, hookimpl

if TYPE_CHECKING:
    from stkit.plugin import Checkpoint, Recognised


@hookimpl
def register_editing_methods() -> Sequence[EditingMethod]:
    """The one method of this package."""
    from stkit_reference.method import ReferenceEditing

    return [ReferenceEditing()]


@hookimpl
def register_checkpoints() -> Sequence[CheckpointFamily]:
    """The files that its block and the classifier were published in."""
    return [EditModel()]


@hookimpl
def register_trainers() -> Sequence[Trainer]:
    """The training of its block."""
    from stkit_reference.trainer import ReferenceTrainer

    return [ReferenceTrainer()]


class EditModel(CheckpointFamily):
    """The official Style Transformer's edit model: classifier or block, with the decoder beside them."""

    name = "style-transformer-edit"
    description = "the official Style Transformer's edit model (Hu et al., CVPR 2022)"

    def recognise(self, checkpoint: Checkpoint) -> Recognised | None:
        from stkit_reference.checkpoint import recognise

        return recognise(checkpoint)


__all__ = ["EditModel", "register_checkpoints", "register_editing_methods", "register_trainers"]
