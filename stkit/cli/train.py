"""`stkit train`."""

from __future__ import annotations

import typer

app = typer.Typer(help="Train models; every run can be stopped and resumed.", no_args_is_help=True)
