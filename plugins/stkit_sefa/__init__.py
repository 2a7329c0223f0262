"""SeFa (Shen and Zhou, CVPR 2021) as a plugin."""

from __future__ import annotations

from collections.abc import Sequence

from stkit import hookimpl
from stkit.contracts.editing import EditingMethod


@hookimpl
def register_editing_methods() -> Sequence[EditingMethod]:
    """The one method of this package."""
    from stkit_sefa.method import SeFa

    return [SeFa()]


__all__ = ["register_editing_methods"]
