"""The plugin contract. Implement any of these hooks in a module and name it in the entry-point group `stkit`.

from stkit import hookimpl

@hookimpl
def register_editing_methods():
    return [MyMethod()]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import typer

    from stkit.domains import Domain
    from stkit.editing import EditingMethod
    from stkit.inversion import Inverter
    from stkit.metrics import Metric

PROJECT = "stkit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_editing_methods() -> Sequence[EditingMethod]:
    """Editing methods for `stkit edit --method NAME`."""


@hookspec
def register_inverters() -> Sequence[Inverter]:
    """Inverters for `--inverter NAME`."""


@hookspec
def register_domains() -> Sequence[Domain]:
    """Domains for `--domain NAME`."""


@hookspec
def register_metrics() -> Sequence[Metric]:
    """Metrics for `stkit evaluate`."""


@hookspec
def register_commands(app: typer.Typer) -> None:
    """Add commands or groups to the `stkit` command line; a name that is taken is refused."""


__all__ = ["hookimpl", "hookspec"]
