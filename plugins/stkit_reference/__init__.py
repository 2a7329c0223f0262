"""Reference editing of the Style Transformer paper (Hu et al., CVPR 2022) as a plugin."""

from __future__ import annotations

from collections.abc import Sequence

from stkit import hookimpl
from stkit.contracts.editing import EditingMethod


@hookimpl
def register_editing_methods() -> Sequence[EditingMethod]:
    """The one method of this package."""
    from stkit_reference.method import ReferenceEditing

    return [ReferenceEditing()]


__all__ = ["register_editing_methods"]
