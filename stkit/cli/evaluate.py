"""`stkit evaluate-quick`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stkit.cli.common import DeviceFlag, DomainFlag, WeightsFlag, console, open_editor, progress_bar

if TYPE_CHECKING:
    from stkit.datasets.images import ImageSet

COMMAND = "evaluate-quick"


def run(
    data: Annotated[Path, typer.Argument(help="A zip or a folder of aligned images, a CSV with splits beside it.")],
    domain: DomainFlag = None,
    weights: WeightsFlag = None,
    split: Annotated[str, typer.Option("--split", help="The split of the CSV to reconstruct.")] = "test",
    labels: Annotated[Path | None, typer.Option("--labels", help="Another CSV of splits (file, split).")] = None,
    grid: Annotated[Path | None, typer.Option("--grid", help="Write random and worst reconstructions here.")] = None,
    identity: Annotated[bool, typer.Option("--identity/--no-identity", help="Cosine of identity embeddings.")] = True,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Note the usual errors in the weights, for the warning of unusual photos."),
    ] = False,
    frechet: Annotated[
        int, typer.Option("--frechet", min=0, help="Frechet distance of this many samples, say 5000 (lite0 features).")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    device: DeviceFlag = "auto",
) -> None:
    """Reconstruction errors on held-out images, beside those of the mean training image (MSE and LPIPS at 256 px)."""
    from stkit.datasets.images import labels_beside, load_image_set, load_train_val
    from stkit.jobs.evaluate import evaluate_reconstruction, evaluate_samples, mean_image, reconstruction_grid
    from stkit.photo.images import save_image

    editor = open_editor(domain, weights, device)
    size = editor.weights.resolution

    def read(split: str) -> ImageSet:
        with progress_bar(f"reading {split}") as on_progress:
            return load_image_set(data, size, split, labels, on_progress, editor.domain.output_crop)

    if labels is None and not labels_beside(data).exists():
        with progress_bar("reading") as on_progress:
            train_set, held_out = load_train_val(data, size, on_progress, editor.domain.output_crop)
        split = "every 25th"  # as `stkit train` holds out where no CSV says otherwise
    else:
        held_out, train_set = read(split), read("train")
    embedder = editor.domain.load_embedder(editor.weights.alignment, editor.device) if identity else None
    with progress_bar("reconstructing") as on_progress:
        report = evaluate_reconstruction(
            editor.weights, held_out, mean_image(train_set), editor.device, embedder, on_progress=on_progress
        )
    if frechet:
        with progress_bar("features") as on_progress:
            report["lite0"] = evaluate_samples(editor.weights, held_out, train_set, editor.device, frechet, on_progress)
    if grid:
        worst = [row["file"] for row in report["worst"]]
        save_image(reconstruction_grid(editor.weights, held_out, worst, editor.device), grid)
    if calibrate:
        from stkit.jobs.evaluate import reconstruction_errors
        from stkit.measure.usual import store_usual_errors

        store_usual_errors(editor.weights, reconstruction_errors(editor, held_out))
    if as_json:
        print(json.dumps(report, indent=2))
        return
    console.print(f"{report['images']} images of the split '{split}', weights '{editor.weights.name}'")
    for name, label in (("reconstruction", "reconstruction"), ("mean_image", "mean image")):
        console.print(f"{label:15s}" + "  ".join(f"{key} {value:.4f}" for key, value in report[name].items()))
    if frechet:
        figures = report["lite0"]
        console.print(
            f"Frechet distance to the split '{split}', lite0 features (not FID): {figures['frechet']:.2f} of "
            f"{figures['samples']} samples, {figures['floor']:.2f} of {figures['train_images']} training images; "
            f"sliced Wasserstein distance x 1e3: {figures['swd']:.1f} and {figures['swd_floor']:.1f}"
        )
    if grid:
        console.print(str(grid))


__all__ = ["COMMAND", "run"]
