"""SeFa (Shen and Zhou, CVPR 2021) as a plugin."""

from __future__ import annotations

from collections.abc import Sequence

from stkit.plugin import EditingMethod, hookimpl


@hookimpl
def register_editing_methods() -> Sequence[EditingMethod]:
    """The one method of this package."""
    from stkit_sefa.method import SeFa

    return [SeFa()]


__all__ = ["register_editing_methods"]
