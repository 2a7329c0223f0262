"""GANSpace (Härkönen et al., NeurIPS 2020) as a plugin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stkit.plugin import EditingMethod, hookimpl

if TYPE_CHECKING:
    import typer


@hookimpl
def register_editing_methods() -> Sequence[EditingMethod]:
    """The one method of this package."""
    from stkit_ganspace.method import GANSpace

    return [GANSpace()]


@hookimpl
def register_commands(app: typer.Typer) -> None:
    """`stkit name-component`."""
    from stkit_ganspace.name_command import run

    app.command("name-component", rich_help_panel="Train")(run)


__all__ = ["register_commands", "register_editing_methods"]
