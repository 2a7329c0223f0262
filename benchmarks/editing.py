"""How far edits go, by judges that took no part in fitting: `python -m benchmarks.editing DATA.zip [--json FILE]`.

Held-out faces are inverted; every method edits all of them in every attribute at every strength, and the judges
(benchmarks.judges) look at the edits and at the unedited reconstructions. Methods that need a reference edit pairs of
faces. docs/editing.md says what the columns mean.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from stkit_faces.domain import FacesDomain
from torch import Tensor

import stkit
from benchmarks.editing_report import FIDELITY, Faces, Job, draw_grid, print_report
from benchmarks.judges import JUDGED, Judge, fit_judge, require_framing, validity, with_room
from stkit.cli.common import print_error, progress_bar
from stkit.contracts.editing import EditContext
from stkit.datasets.images import ImageSet, load_image_set
from stkit.datasets.labels import labels_beside
from stkit.editor.editor import Editor
from stkit.editor.refinement import parse_refinements, refine_latents
from stkit.errors import OutputError, StkitError, UsageError
from stkit.files import safe_name
from stkit.latents.latents import Latents, join_latents, load_latents, save_latents
from stkit.measure.lpips import load_lpips
from stkit.models.registry import load_generator
from stkit.options import build_options
from stkit.photo.images import resize_batch, save_image, to_image

_BATCH = 16
_CALIBRATION = 100  # faces of the split val that the judges are calibrated on at least
_GRID_FACES = 2


@dataclass(frozen=True)
class Row:
    """What one edit did to all faces, on average. Per attribute of JUDGED, in standard deviations of the judge.

    `shift` is the mean change, `spread` the mean absolute change. `share` is how much of the way to the reference's
    value the attribute went, None without references; `in_room` is the mean change of the attribute in the `room` faces
    whose judge could see more (judges.with_room), None where it is not judged; `identity` (a cosine), `distance` (of
    the same descriptors) and `lpips` are against the reconstruction.
    """

    method: str
    attribute: str
    strength: float
    shift: dict[str, float]
    spread: dict[str, float]
    share: float | None
    room: int
    in_room: float | None
    identity: float
    distance: float
    lpips: float

    @property
    def dependency(self) -> float:
        """Attribute dependency (Wu et al., StyleSpace, CVPR 2021): the mean of `spread` over the other attributes."""
        return float(np.mean([value for name, value in self.spread.items() if name != self.attribute]))


def find_jobs(
    editor: Editor, methods: Sequence[str], attributes: Sequence[str], strengths: Sequence[float]
) -> tuple[list[Job], list[str]]:
    """The edits to make, and notes on the methods that have none of `attributes` with these weights.

    Without `methods` all registered ones are tried. A reference has one strength: 1.
    """
    jobs, notes = [], []
    for name in methods or editor.registry.editing_methods:
        method = editor.registry.editing_method(name)
        try:
            known = {attribute.name for attribute in method.attributes(EditContext(editor.weights, editor.device))}
        except StkitError as error:
            notes.append(f"{name}: {error}")
            continue
        found = [attribute for attribute in attributes if attribute in known]
        if not found:
            notes.append(f"{name}: has none of {', '.join(attributes)}")
        chosen = [1.0] if method.needs_reference else strengths
        jobs += [Job(method, attribute, strength) for attribute in found for strength in chosen]
    return jobs, notes


def invert_faces(
    editor: Editor,
    image_set: ImageSet,
    judge: Judge,
    refine: Sequence[str],
    kept: Path | None,
    on_progress: Callable[[int, int], None],
) -> Faces:
    """Reconstruct and judge all images of `image_set`; `refine` is as for `stkit.editor.refinement.refine_latents`.

    The latents of each image come from the folder `kept` where it has them, and go there.
    """
    together = 1 if _tunes(editor, refine) else _BATCH  # a tuned generator is for one image
    latents, images, scores = [], [], []
    for numbers in torch.arange(len(image_set)).split(together):
        rows = []
        for number in numbers.split(1):
            rows.append(_invert(editor, image_set, number, refine, kept))
            on_progress(int(number) + 1, len(image_set))
        latents.append(join_latents(rows))
        images.append(picture(editor, latents[-1]))
        scores.append(judge(images[-1]))
    return Faces(image_set, tuple(latents), torch.cat(images), np.concatenate(scores))


def _tunes(editor: Editor, refine: Sequence[str]) -> bool:
    return any(editor.registry.inverter(name).tunes for name, _ in parse_refinements(editor.registry, refine))


def _invert(editor: Editor, image_set: ImageSet, number: Tensor, refine: Sequence[str], kept: Path | None) -> Latents:
    """Latents of one image, without provenance."""
    name = safe_name(".".join([image_set.names[int(number)], *refine]).replace(":", "-"))
    path = kept / f"{name}.safetensors" if kept else None
    if path and path.exists():
        return load_latents(path)
    photo = image_set.batch(number, editor.device)
    latents, _ = refine_latents(editor, editor.invert_crops(photo), photo, refine)
    if path:
        save_latents(latents, path)
    return latents


def picture(editor: Editor, latents: Latents) -> Tensor:
    """The images that are judged: at the resolution that codes are optimised at, [N, 3, R, R] in [-1, 1]."""
    size = load_generator(editor.weights, editor.device).seen_resolution
    return editor.generate(latents, size).clamp(-1, 1)


def fidelity(editor: Editor, faces: Faces) -> dict[str, list[float]]:
    """Of every face as it is shown, against its photo: LPIPS-Alex at 256 and 512 px, and the descriptors' distance."""
    network = load_lpips(editor.device)
    found: dict[str, list[float]] = {name: [] for name in FIDELITY}
    for number, shown in zip(torch.arange(len(faces.photos)).split(1), faces.images.split(1), strict=True):
        photo = faces.photos.batch(number, torch.device("cpu"))
        for name, size in (("lpips", 256), ("lpips_512", 512)):
            pair = (resize_batch(part, size).to(editor.device) for part in (shown, photo))
            with torch.no_grad():
                found[name].append(float(network(*pair)))
        found["distance"] += _metrics(
            editor, "identity", shown, resize_batch(photo, shown.shape[-1]), "identity_distance"
        )
    return found


def edit_faces(editor: Editor, job: Job, latents: Sequence[Latents], partners: Sequence[int]) -> Iterator[Tensor]:
    """Batches of edited images, in the order of `latents`; `partners` are the rows that serve as references."""
    options = build_options(job.method.Options, {})
    context = EditContext(editor.weights, editor.device, job.attribute, job.strength)
    each = [rows.row(i) for rows in latents for i in range(len(rows))]
    done = 0
    for rows in latents:
        if job.method.needs_reference:
            edited = []
            for i in range(done, done + len(rows)):
                alone = dataclasses.replace(context, references=each[partners[i]])
                edited.append(job.method.edit(each[i], options, alone))
            yield torch.cat([picture(editor, one) for one in edited])
        else:
            yield picture(editor, job.method.edit(rows, options, context))
        done += len(rows)


def measure(
    editor: Editor,
    job: Job,
    faces: Faces,
    partners: Sequence[int],
    judge: Judge,
    deviations: np.ndarray,
    on_progress: Callable[[int], None],
) -> tuple[Row, list[Image.Image]]:
    """The row of one edit, and the edited images of the first faces for the grid."""
    images, scores = [], []
    for batch in edit_faces(editor, job, faces.latents, partners):
        images.append(batch)
        scores.append(judge(batch))
        on_progress(len(batch))
    edited = torch.cat(images)
    change = (np.concatenate(scores) - faces.scores) / deviations
    share, in_room = None, None
    room = with_room(faces.scores, job.attribute, job.strength)
    if job.attribute in JUDGED and room.any():
        in_room = float(change[room, JUDGED.index(job.attribute)].mean())
    if job.method.needs_reference and job.attribute in JUDGED:
        column = JUDGED.index(job.attribute)
        way = (faces.scores[list(partners)] - faces.scores)[:, column] / deviations[column]
        share = float((change[:, column] * way).sum() / (way**2).sum())
    row = Row(
        job.method.name,
        job.attribute,
        job.strength,
        dict(zip(JUDGED, change.mean(0).tolist(), strict=True)),
        dict(zip(JUDGED, np.abs(change).mean(0).tolist(), strict=True)),
        share,
        int(room.sum()),
        in_room,
        *_metrics(editor, "identity", edited, faces.images, "identity", "identity_distance"),
        *_metrics(editor, "lpips", edited, faces.images, "lpips"),
    )
    return row, [to_image(image) for image in edited[:_GRID_FACES]]


def _metrics(editor: Editor, name: str, images: Tensor, references: Tensor, *keys: str) -> list[float]:
    metric = editor.registry.metric(name)
    framed = {"template": editor.weights.alignment.kind} if "template" in metric.Options.model_fields else {}
    values = metric.compute(images, references, build_options(metric.Options, framed))
    return [values[key] for key in keys]


def read_faces(data: Path, resolution: int, split: str, limit: int) -> tuple[ImageSet, list[dict[str, str]]]:
    """`limit` random images of a split of `data` (0: all), and their rows in the CSV beside it. Raises StkitError."""
    with progress_bar(f"reading {split}") as on_progress:
        found = load_image_set(data, resolution, split, on_progress=on_progress)
    try:
        with labels_beside(data).open(newline="", encoding="utf-8") as file:
            labels = {row["file"]: row for row in csv.DictReader(file)}
    except OSError as error:
        raise StkitError(f"cannot read the labels {labels_beside(data)}: {error.strerror}") from error
    chosen = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[: limit or None]
    kept = ImageSet(found.images[chosen], tuple(found.names[i] for i in chosen))
    return kept, [labels[Path(name).name] for name in kept.names]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what `args` ask for, write the grid, and give the report (see docs/editing.md)."""
    editor = stkit.load(stkit.find_weights(args.weights), args.device)
    framing = require_framing(editor.weights.alignment, editor.weights.name)
    jobs, notes = find_jobs(editor, args.methods, args.attributes, args.strengths)
    if not jobs:
        raise UsageError(f"nothing to measure: {'; '.join(notes)}")
    few = max(args.limit, _CALIBRATION) if args.limit else 0
    calibration, labels = read_faces(args.labelled or args.data, FacesDomain.resolution, "val", few)
    judge = fit_judge(calibration.batch(torch.arange(len(calibration)), torch.device("cpu")), labels, framing)
    held_out, labels = read_faces(args.data, editor.weights.resolution, "test", args.limit)
    if len(held_out) < 2:
        raise UsageError("one face has no pair; give at least two with --limit")
    with progress_bar("judging the photos") as on_progress:
        photo_scores = _judge_photos(judge, held_out, on_progress)
    deviations = photo_scores.std(0)
    with progress_bar("inverting") as on_progress:
        faces = invert_faces(editor, held_out, judge, args.refine, args.codes, on_progress)
    # Each face's reference is the one before it in a random circle of all faces: nobody is their own.
    circle = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(args.seed))
    partners = torch.empty_like(circle)
    partners[circle] = circle.roll(1)
    rows, pictures, done = [], [], 0
    with progress_bar("editing") as on_progress:
        for job in jobs:

            def advance(count: int) -> None:
                nonlocal done
                done += count
                on_progress(done, len(jobs) * len(held_out))

            row, edited = measure(editor, job, faces, partners.tolist(), judge, deviations, advance)
            rows.append(row)
            pictures.append(edited)
    if args.grid:
        save_image(draw_grid(faces, partners.tolist(), jobs, pictures), args.grid)
    return {
        "weights": editor.weights.name,
        "generator": editor.weights.fingerprint,
        "faces": len(held_out),
        "refine": args.refine,
        "judges": {
            "on_photos": validity(photo_scores, labels),
            "on_reconstructions": validity(faces.scores, labels),
            "deviations": dict(zip(JUDGED, deviations.tolist(), strict=True)),
        },
        "fidelity": fidelity(editor, faces),
        "notes": notes,
        "edits": [{**dataclasses.asdict(row), "dependency": row.dependency} for row in rows],
    }


def _judge_photos(judge: Judge, image_set: ImageSet, on_progress: Callable[[int, int], None]) -> np.ndarray:
    scores = []
    for indices in torch.arange(len(image_set)).split(_BATCH):
        scores.append(judge(image_set.batch(indices, torch.device("cpu"))))
        on_progress(int(indices[-1]) + 1, len(image_set))
    return np.concatenate(scores)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.editing", description="How far edits go.")
    parser.add_argument(
        "data", type=Path, help="zip of aligned faces with a CSV beside it (split, age, sex, smile, yaw)"
    )
    parser.add_argument(
        "--labelled",
        type=Path,
        metavar="ZIP",
        help="faces by whose smile and yaw the judges are calibrated (default: DATA)",
    )
    parser.add_argument("--refine", nargs="+", default=[], help="after the encoder, as for stkit invert: optimize:50")
    parser.add_argument(
        "--codes", type=Path, metavar="FOLDER", help="keep the latents of every face there, and take them thence"
    )
    parser.add_argument("--weights", default="faces", help="weights by name or folder (default faces)")
    parser.add_argument("--methods", nargs="+", default=[], help="editing methods (default: all that are installed)")
    parser.add_argument("--attributes", nargs="+", default=list(JUDGED), help=f"default: {' '.join(JUDGED)}")
    parser.add_argument("--strengths", nargs="+", type=float, default=[-2.0, -1.0, 1.0, 2.0], help="default: -2 -1 1 2")
    parser.add_argument("--limit", type=int, default=200, help="held-out faces (default 200; 0: all)")
    parser.add_argument("--seed", type=int, default=0, help="who is whose reference (default 0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--grid", type=Path, metavar="FILE", help="write a grid of pictures there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there, too")
    args = parser.parse_args()
    try:
        report = run(args)
        if args.json:
            try:
                args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            except OSError as error:
                raise OutputError(f"cannot write {args.json}: {error.strerror}") from error
    except StkitError as error:
        print_error(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print_error("interrupted")
        sys.exit(130)
    print_report(report, Console(width=None if sys.stdout.isatty() else 140))


if __name__ == "__main__":
    main()
