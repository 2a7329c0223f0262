"""`stkit web`: a page with sliders, on Gradio, as a plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stkit.plugin import hookimpl

if TYPE_CHECKING:
    import typer


@hookimpl
def register_commands(app: typer.Typer) -> None:
    """`stkit web`."""
    from stkit_web.command import run

    app.command("web", rich_help_panel="Edit photos")(run)


__all__ = ["register_commands"]
