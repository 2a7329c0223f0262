"""InterFaceGAN (Shen et al., CVPR 2020) as a plugin: the method, `stkit fit-direction` and `stkit directions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stkit.plugin import EditingMethod, hookimpl

if TYPE_CHECKING:
    import typer


@hookimpl
def register_editing_methods() -> Sequence[EditingMethod]:
    """The one method of this package."""
    from stkit_interfacegan.method import InterFaceGAN

    return [InterFaceGAN()]


@hookimpl
def register_commands(app: typer.Typer) -> None:
    """`stkit fit-direction` and the group `stkit directions`."""
    from stkit_interfacegan.fit_command import run
    from stkit_interfacegan.group import build_group

    app.command("fit-direction", rich_help_panel="Train")(run)
    app.add_typer(build_group(), rich_help_panel="Models")


__all__ = ["register_commands", "register_editing_methods"]
