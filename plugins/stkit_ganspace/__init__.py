"""GANSpace (Härkönen et al., NeurIPS 2020) as a plugin."""

from __future__ import annotations

from collections.abc import Sequence

from stkit import hookimpl
from stkit.editing import EditingMethod


@hookimpl
def register_editing_methods() -> Sequence[EditingMethod]:
    """The one method of this package."""
    from stkit_ganspace.method import GANSpace

    return [GANSpace()]


__all__ = ["register_editing_methods"]
