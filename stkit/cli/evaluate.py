"""`stkit evaluate-quick`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from stkit.cli.common import DeviceFlag, DomainFlag, WeightsFlag, console, progress_bar
from stkit.cli.flags import takes
from stkit.contracts.training import Voice
from stkit.jobs.request import EvaluateRequest

COMMAND = "evaluate-quick"

FLAGS = {
    "data": Annotated[Path, typer.Argument(help="A zip or a folder of aligned images, a CSV with splits beside it.")],
    "domain": DomainFlag,
    "weights": WeightsFlag,
    "split": Annotated[str, typer.Option("--split", help="The split of the CSV to reconstruct.")],
    "labels": Annotated[Path | None, typer.Option("--labels", help="Another CSV of splits (file, split).")],
    "metrics": Annotated[
        list[str] | None,
        typer.Option("--metric", help="Compute this one too, see `stkit metrics`; may be repeated."),
    ],
    "options": Annotated[
        list[str] | None, typer.Option("-o", "--option", metavar="KEY=VALUE", help="An option of the one --metric.")
    ],
    "grid": Annotated[Path | None, typer.Option("--grid", help="Write random and worst reconstructions here.")],
    "identity": Annotated[bool, typer.Option("--identity/--no-identity", help="Cosine of identity embeddings.")],
    "calibrate": Annotated[
        bool,
        typer.Option("--calibrate", help="Note the usual errors in the weights, for the warning of unusual photos."),
    ],
    "frechet": Annotated[
        int, typer.Option("--frechet", min=0, help="Frechet distance of this many samples, say 5000 (lite0 features).")
    ],
    "as_json": Annotated[bool, typer.Option("--json", help="Print JSON.")],
    "device": DeviceFlag,
}


@takes(EvaluateRequest, FLAGS)
def run(request: EvaluateRequest, as_json: bool = False) -> None:
    """Measure reconstructions of held-out images, beside the mean training image in their place (at 256 px)."""
    from stkit.jobs.evaluate import evaluate

    report = evaluate(request, Voice(console.print, progress_bar))
    if as_json:
        print(json.dumps(report, indent=2))
        return
    console.print(f"{report['images']} images of the split '{report['split']}', weights '{report['weights']}'")
    for name, label in (("reconstruction", "reconstruction"), ("mean_image", "mean image")):
        console.print(f"{label:15s}" + "  ".join(f"{key} {value:.4f}" for key, value in report[name].items()))
    if "lite0" in report:
        console.print(_samples(report["lite0"], report["split"]))
    if request.grid:
        console.print(str(request.grid))


def _samples(figures: dict[str, Any], split: str) -> str:
    return (
        f"Frechet distance to the split '{split}', lite0 features (not FID): {figures['frechet']:.2f} of "
        f"{figures['samples']} samples, {figures['floor']:.2f} of {figures['train_images']} training images; "
        f"sliced Wasserstein distance x 1e3: {figures['swd']:.1f} and {figures['swd_floor']:.1f}"
    )


__all__ = ["COMMAND", "run"]
