"""How far fitted directions move a judge of their labels: `python -m benchmarks.directions DATA.zip --labels FILE ...`.

The judge of an attribute is a logistic regression on EfficientNet-lite0 features of what the generator makes of the
training images. It sees pictures and no codes, so an edit that only moves a code across the SVM's plane does not count.
The edits are of held-out images, and a shift is in standard deviations of the judge over all of those.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import stkit
from stkit.cli.common import print_error, progress_bar
from stkit.datasets.labels import AttributeSpec, load_labels
from stkit.editor.editor import Editor
from stkit.errors import StkitError, UsageError
from stkit.jobs.labelled import labelled_photos
from stkit.latents.latents import Latents
from stkit.measure.distributions import lite0_features
from stkit.measure.efficientnet import load_lite0
from stkit.photo.images import picture_part

_BATCH = 16


@dataclass(frozen=True)
class Row:
    """A direction: the judge's AUC on held-out images, and the mean shift of every judge at each strength."""

    name: str
    auc: float
    shifts: dict[float, dict[str, float]]

    def worst_other(self, strength: float) -> tuple[str, float]:
        """The other attribute that moves most at `strength`."""
        others = {name: shift for name, shift in self.shifts[strength].items() if name != self.name}
        return max(others.items(), key=lambda item: abs(item[1]), default=("", 0.0))


def measure(
    editor: Editor,
    images: Path,
    labels: Path,
    specs: list[AttributeSpec],
    strengths: list[float],
    limit: int | None = None,
) -> list[Row]:
    """A row for each attribute, whose direction is called like its positive word, or else its column.

    `images` are crops framed as the weights' training data. Raises LabelsError, UnknownNameError, UsageError.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.preprocessing import StandardScaler

    names = [spec.positive or spec.column for spec in specs]
    steps = {name: [editor.parse_step(f"{name}={strength}") for strength in strengths] for name in names}
    with progress_bar("inverting") as on_progress:
        data = labelled_photos(editor, load_labels(labels), images, specs, aligned=True, on_progress=on_progress)
    classes, held_out = dict(zip(names, data.values.numpy().T, strict=True)), data.val.numpy()
    for name, column in classes.items():
        if not set(np.unique(column)) <= {0.0, 1.0}:
            raise UsageError(f"'{name}' has other values than two classes; name the positive one, like colour=red")
    chosen = np.flatnonzero(held_out)[:limit]
    total = len(data.codes) + len(names) * len(strengths) * len(chosen)
    seen = 0
    with progress_bar("judging") as on_progress:

        def pictures(codes: Tensor) -> Iterator[Tensor]:
            nonlocal seen
            for part in codes.split(_BATCH):
                images = editor.generate(Latents(part, editor.weights.space))
                yield picture_part(images, editor.domain.output_crop)
                seen += len(part)
                on_progress(seen, total)

        network = load_lite0(editor.device)

        @torch.no_grad()
        def features(codes: Tensor) -> np.ndarray:
            return lite0_features(network, pictures(codes)).cpu().numpy()

        scale = StandardScaler()
        original = features(data.codes)
        scale.fit(original[~held_out])
        original = scale.transform(original)
        judges = {
            name: LogisticRegression(C=1e-3, class_weight="balanced", max_iter=300).fit(
                original[~held_out], column[~held_out]
            )
            for name, column in classes.items()
        }
        scores = {name: judge.decision_function(original) for name, judge in judges.items()}
        latents = Latents(data.codes[chosen], editor.weights.space)
        rows = []
        for name, column in classes.items():
            shifts = {}
            for strength, step in zip(strengths, steps[name], strict=True):
                edited = scale.transform(features(editor.apply(latents, [step]).codes))
                shifts[strength] = {
                    other: float((judge.decision_function(edited) - scores[other][chosen]).mean())
                    / float(scores[other][held_out].std())
                    for other, judge in judges.items()
                }
            rows.append(Row(name, float(roc_auc_score(column[held_out], scores[name][held_out])), shifts))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.directions", description="How far directions move a judge of their labels."
    )
    parser.add_argument("data", type=Path, help="folder or archive of aligned crops")
    parser.add_argument("--labels", type=Path, required=True, help="as for stkit fit-direction")
    parser.add_argument("--attributes", nargs="+", required=True, metavar="A", help="of two classes: smile, colour=red")
    parser.add_argument("--strengths", nargs="+", type=float, default=[-2.0, 2.0])
    parser.add_argument("--limit", type=int, help="edit this many held-out images (default all)")
    parser.add_argument("--weights", default="faces", help="weights by name or folder (default faces)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    args = parser.parse_args()
    try:
        editor = stkit.load(stkit.find_weights(args.weights), args.device)
        specs = [AttributeSpec.parse(text) for text in args.attributes]
        rows = measure(editor, args.data, args.labels, specs, args.strengths, args.limit)
    except StkitError as error:
        print_error(str(error))
        sys.exit(error.exit_code)
    last = args.strengths[-1]
    table = Table("direction", "AUC of its judge", *(f"at {s:+g}" for s in args.strengths), f"other at {last:+g}, most")
    for row in rows:
        other, shift = row.worst_other(last)
        most = f"{other} {shift:+.2f}" if other else ""
        own = (f"{row.shifts[strength][row.name]:+.2f}" for strength in args.strengths)
        table.add_row(row.name, f"{row.auc:.2f}", *own, most)
    Console().print(table)


if __name__ == "__main__":
    main()
