"""StyleSpace (Wu et al., CVPR 2021) as a plugin: the method, and `stkit rank-channels`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stkit.plugin import EditingMethod, hookimpl

if TYPE_CHECKING:
    import typer


@hookimpl
def register_editing_methods() -> Sequence[EditingMethod]:
    """The one method of this package."""
    from stkit_stylespace.method import StyleSpace

    return [StyleSpace()]


@hookimpl
def register_commands(app: typer.Typer) -> None:
    """`stkit rank-channels`."""
    from stkit_stylespace.command import run

    app.command("rank-channels", rich_help_panel="Train")(run)


__all__ = ["register_commands", "register_editing_methods"]
