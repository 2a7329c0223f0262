"""`stkit train`: one file a trained thing. Each leaves a weights folder that `--weights` takes."""

from __future__ import annotations

import typer

from stkit.cli.train import classifier, domain, generator, inverter, mapping, reconstruction, reference

app = typer.Typer(help="Train models. Every run can be stopped at any moment and resumed.", no_args_is_help=True)
app.command("domain")(domain.run)
app.command("reconstruction")(reconstruction.run)
app.command("mapping")(mapping.run)
app.command("generator")(generator.run)
app.command("inverter")(inverter.run)
app.command("classifier")(classifier.run)
app.command("reference")(reference.run)

__all__ = ["app"]
