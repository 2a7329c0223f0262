"""The plugin contract. Implement any of these hooks in a module and name it in the entry-point group `stkit`.

from stkit.plugin import hookimpl

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

    from stkit.contracts.checkpoints import CheckpointFamily
    from stkit.contracts.domains import Domain
    from stkit.contracts.editing import EditingMethod
    from stkit.contracts.engines import Engine
    from stkit.contracts.generators import Architecture
    from stkit.contracts.inversion import Inverter
    from stkit.contracts.metrics import Metric
    from stkit.contracts.scoring import Scorer
    from stkit.contracts.training import Trainer

PROJECT = "stkit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_editing_methods() -> Sequence[EditingMethod]:
    """Editing methods for `stkit edit --method NAME`, as objects.

    Called once, when plugins load, also for `stkit --help`: import torch inside the methods that use it. A name
    that is taken is refused, and so is an object without name or description; the rest is kept.
    """


@hookspec
def register_inverters() -> Sequence[Inverter]:
    """Inverters for `--inverter NAME`, as objects; the rules are those of `register_editing_methods`."""


@hookspec
def register_domains() -> Sequence[Domain]:
    """Domains for `--domain NAME`, as objects; the rules are those of `register_editing_methods`."""


@hookspec
def register_metrics() -> Sequence[Metric]:
    """Metrics for evaluation, as objects; the rules are those of `register_editing_methods`."""


@hookspec
def register_scorers() -> Sequence[Scorer]:
    """Scorers for `stkit fit-direction --scorer NAME`: they label a generator's own samples."""


@hookspec
def register_generators() -> Sequence[Architecture]:
    """Generator architectures, as objects: what the headers of weights files name, and how to build and import it."""


@hookspec
def register_trainers() -> Sequence[Trainer]:
    """Trainings for `stkit train NAME`, as objects; the rules are those of `register_editing_methods`."""


@hookspec
def register_checkpoints() -> Sequence[CheckpointFamily]:
    """Families of checkpoint files for `stkit weights import`, as objects; asked after those that stkit knows."""


@hookspec
def register_engines() -> Sequence[Engine]:
    """Engines for `stkit invert --engine NAME` and `edit`: they spread photos over processes and machines."""


@hookspec
def register_commands(app: typer.Typer) -> None:
    """Add commands or groups to the `stkit` command line.

    `app` is a Typer app of this plugin alone: what is on it moves to the command line when its name is free there.
    Its callback belongs to stkit.
    """


__all__ = [
    "hookimpl",
    "hookspec",
    "register_checkpoints",
    "register_commands",
    "register_domains",
    "register_editing_methods",
    "register_engines",
    "register_generators",
    "register_inverters",
    "register_metrics",
    "register_scorers",
    "register_trainers",
]
