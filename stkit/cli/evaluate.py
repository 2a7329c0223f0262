"""`stkit evaluate`: the report, or with `--quick` a few figures; and the old name of the latter."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from stkit.cli.common import ENGINE, DeviceFlag, DomainFlag, WeightsFlag, console, print_table, progress_bar
from stkit.cli.flags import takes
from stkit.contracts.training import Voice
from stkit.errors import UsageError
from stkit.jobs.request import EvaluateRequest, QuickRequest

logger = logging.getLogger("stkit")

COMMAND, OLD_COMMAND = "evaluate", "evaluate-quick"

_DATA = Annotated[Path, typer.Argument(help="A folder or an archive of aligned images, a CSV with splits beside it.")]
_SPLIT = Annotated[str, typer.Option("--split", help="The split of the CSV to measure.")]
_LABELS = Annotated[Path | None, typer.Option("--labels", help="Another CSV of splits (file, split).")]
_QUICK = {
    "grid": Annotated[Path | None, typer.Option("--grid", help="Quick: write random and worst reconstructions here.")],
    "identity": Annotated[bool, typer.Option("--identity/--no-identity", help="Quick: cosine of identity embeddings.")],
    "calibrate": Annotated[
        bool,
        typer.Option(
            "--calibrate", help="Quick: note the usual errors in the weights, for the warning of unusual photos."
        ),
    ],
    "frechet": Annotated[
        int,
        typer.Option(
            "--frechet", min=0, help="Quick: Frechet distance of this many samples, say 5000 (lite0 features)."
        ),
    ],
    "as_json": Annotated[bool, typer.Option("--json", help="Print JSON.")],
    "device": DeviceFlag,
}

FLAGS = {
    "data": _DATA,
    "weights": Annotated[
        list[str] | None,
        typer.Option("--weights", help="Weights by name or folder, several with commas; the domain's by default."),
    ],
    "inverters": Annotated[
        list[str] | None,
        typer.Option("--inverters", help="Like psp,psp+optimize:100,best; by default the encoders of the weights."),
    ],
    "edits": Annotated[
        list[str] | None, typer.Option("--edits", help="Like age=2,ganspace:turn=2; both ways, at half and full.")
    ],
    "metrics": Annotated[
        list[str] | None, typer.Option("--metrics", help="Names, see `stkit metrics`, with commas; all by default.")
    ],
    "options": Annotated[
        list[str] | None,
        typer.Option("-o", "--option", metavar="NAME.KEY=VALUE", help="An option of an inverter or a metric."),
    ],
    "out": Annotated[Path, typer.Option("--out", help="Folder of the report; the same command goes on there.")],
    "domain": DomainFlag,
    "split": _SPLIT,
    "labels": _LABELS,
    "limit": Annotated[int | None, typer.Option("--limit", min=1, help="Measure so many photos, chosen at random.")],
    "seed": Annotated[int, typer.Option("--seed", help="Which photos --limit chooses.")],
    "costs": Annotated[bool, typer.Option("--costs/--no-costs", help="Measure time, multiply-adds and memory.")],
    **ENGINE,
    "quick": Annotated[
        bool, typer.Option("--quick", help="Print MSE, LPIPS and identity, beside the mean image's; no report.")
    ],
    **_QUICK,
}

OLD_FLAGS = {
    "data": _DATA,
    "domain": DomainFlag,
    "weights": WeightsFlag,
    "split": _SPLIT,
    "labels": _LABELS,
    "metrics": Annotated[list[str] | None, typer.Option("--metric", help="Compute this one too; may be repeated.")],
    "options": Annotated[
        list[str] | None, typer.Option("-o", "--option", metavar="KEY=VALUE", help="An option of the one --metric.")
    ],
    **_QUICK,
}


@takes(EvaluateRequest, FLAGS)
def run(
    request: EvaluateRequest,
    quick: bool = False,
    grid: Path | None = None,
    identity: bool = True,
    calibrate: bool = False,
    frechet: int = 0,
    as_json: bool = False,
) -> None:
    """Compare inverters, and edits of what they give, on held-out photos: a report with tables, plots and pictures.

    Metrics with confidence intervals, costs, and what edits change, as the Style Transformer paper's table does. What
    is there already in --out is not computed again. With --quick a few figures of one set of weights.
    """
    if quick:
        if request.engine:
            raise UsageError("--quick is for this machine; leave out --engine, or --quick")
        if len(request.weights) > 1 or request.inverters or request.edits or request.limit:
            raise UsageError("--quick is for one set of weights with its own inverter; leave out the rest, or --quick")
        chosen = () if request.metrics == ("all",) else request.metrics
        options = {key.removeprefix(f"{name}."): value for name in chosen for key, value in request.options.items()}
        weights = request.weights[0] if request.weights else None
        shared: dict[str, Any] = {"domain": request.domain, "split": request.split, "labels": request.labels}
        shared |= {"metrics": chosen, "options": options or request.options, "device": request.device}
        asked: dict[str, Any] = {"identity": identity, "frechet": frechet, "grid": grid, "calibrate": calibrate}
        _print_quick(QuickRequest(request.data, weights=weights, **shared, **asked), as_json)
        return
    for flag, given in (("--grid", grid), ("--calibrate", calibrate), ("--frechet", frechet)):
        if given:
            raise UsageError(f"{flag} goes with --quick; the report has its own pictures and distances")
    from stkit.jobs.evaluation.report import summary
    from stkit.jobs.evaluation.run import evaluate

    silent = (lambda line: logger.info("%s", line)) if as_json else console.print
    figures = evaluate(request, Voice(silent, progress_bar))
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    for title, headings, rows in summary(figures):
        console.print(f"\n{title}")
        print_table(headings, rows)
    console.print(f"\n{request.out / 'report.html'}")


@takes(QuickRequest, OLD_FLAGS)
def run_old(request: QuickRequest, as_json: bool = False) -> None:
    """The old name of `evaluate --quick`."""
    logger.warning("`evaluate-quick` is now `evaluate --quick`; the old name goes away with the next version")
    _print_quick(request, as_json)


def _print_quick(request: QuickRequest, as_json: bool) -> None:
    """Measure reconstructions beside the mean training image in their place."""
    from stkit.jobs.evaluation.quick import evaluate_quickly

    report = evaluate_quickly(request, Voice(console.print, progress_bar))
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


__all__ = ["COMMAND", "OLD_COMMAND", "run", "run_old"]
