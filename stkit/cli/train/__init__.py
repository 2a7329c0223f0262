"""`stkit train`: one file a trained thing. Each leaves a weights folder that `--weights` takes."""

from __future__ import annotations

import typer

from stkit.cli.train import domain, generator, inverter, reconstruction

app = typer.Typer(help="Train models. Every run can be stopped at any moment and resumed.", no_args_is_help=True)
app.command("domain")(domain.run)
app.command("reconstruction")(reconstruction.run)
app.command("generator")(generator.run)
app.command("inverter")(inverter.run)

__all__ = ["app"]
