"""`stkit evaluate --quick`: the evaluation's runner on one set of weights, in memory, beside the mean image.

The mean image is what a reconstruction has to beat at least.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from stkit.contracts.inversion import ignore_progress
from stkit.contracts.metrics import Metric
from stkit.contracts.training import SILENT, Voice
from stkit.datasets.images import ImageSet, batches, load_image_set, load_train_val
from stkit.datasets.labels import labels_beside
from stkit.editor.editor import Editor, load
from stkit.editor.opening import open_editor
from stkit.errors import StkitError, UsageError
from stkit.jobs.evaluation.photos import LoadedPhotos, compared
from stkit.jobs.evaluation.plan import Plan, System
from stkit.jobs.evaluation.runner import run_plan
from stkit.jobs.evaluation.store import RECONSTRUCTION, Store
from stkit.jobs.request import QuickRequest
from stkit.measure.distributions import frechet_distance, lite0_features, sliced_wasserstein
from stkit.measure.efficientnet import load_lite0
from stkit.measure.lpips import find_lpips
from stkit.measure.usual import store_usual_errors
from stkit.models.registry import load_generator
from stkit.options import Options, build_options
from stkit.photo.images import image_grid, picture_part, save_image, to_image
from stkit.weights import Weights

_BATCH = 16
_SWD_IMAGES, _SWD_SIZE = 512, 256
_TILE = 256  # pixels at most of a picture in the grid


def evaluate_quickly(request: QuickRequest, voice: Voice = SILENT) -> dict[str, Any]:
    """Do what `request` asks for.

    Gives what `evaluate_reconstruction` does, the `split` and the `weights` by name, and with `frechet` as `lite0` what
    `evaluate_samples` does. Raises UsageError, UnknownNameError, WeightsError, StkitError.
    """
    editor = open_editor(request.domain, request.weights, request.device)
    chosen = {name: editor.registry.metric(name) for name in request.metrics}
    metrics = [(metric, build_options(metric.Options, dict(request.options))) for metric in chosen.values()]
    held_out, train_set, split = _sets(request, editor, voice)
    weights, device = editor.weights, editor.device
    embedder = editor.domain.load_embedder(weights.alignment, device) if request.identity else None
    known, bar = Store(), Voice(bar=voice.bar)
    report = evaluate_reconstruction(
        weights, held_out, mean_image(train_set), device, embedder, metrics=metrics, voice=bar, store=known
    )
    if request.frechet:
        with voice.bar("features") as on_progress:
            report["lite0"] = evaluate_samples(weights, held_out, train_set, device, request.frechet, on_progress)
    if request.grid:
        worst = [row["file"] for row in report["worst"]]
        save_image(reconstruction_grid(weights, held_out, worst, device, store=known), request.grid)
    if request.calibrate:
        store_usual_errors(weights, reconstruction_errors(editor, held_out, known))
    return {"weights": weights.name, "split": split, **report}


def _sets(request: QuickRequest, editor: Editor, voice: Voice) -> tuple[ImageSet, ImageSet, str]:
    """The images that are held out, those to train on, and what the former are called."""
    data, size, crop = request.data, editor.weights.resolution, editor.domain.output_crop
    if request.labels is None and not labels_beside(data).exists():
        with voice.bar("reading") as on_progress:
            train_set, held_out = load_train_val(data, size, on_progress, crop)
        return held_out, train_set, "every 25th"
    sets = []
    for split in (request.split, "train"):
        with voice.bar(f"reading {split}") as on_progress:
            sets.append(load_image_set(data, size, split, request.labels, on_progress, crop))
    return sets[0], sets[1], request.split


def evaluate_reconstruction(
    weights: Weights,
    image_set: ImageSet,
    mean: Tensor,
    device: torch.device,
    embedder: Callable[[Tensor], Tensor] | None = None,
    worst: int = 12,
    metrics: Sequence[tuple[Metric[Any], Options]] = (),
    voice: Voice = SILENT,
    store: Store | None = None,
) -> dict[str, Any]:
    """Errors of the reconstructions of `image_set` and of `mean` [3, R, R] (see `mean_image`) in their place.

    Gives `images` (their number), `reconstruction` and `mean_image`, each with the means of `mse` and, where it is
    installed, `lpips` (Alex) and, with an embedder (`Domain.load_embedder`), of the cosine `identity`, and all numbers
    of `metrics`; and `worst`, the files with the highest MSE, each as `file`, `mse`, `lpips`. Pictures are compared as
    in the report on inverters, in 8 bits. A `store` is given the codes. Raises UsageError when the images are not of
    the generator's size, WeightsError without an inverter, StkitError for a photo that cannot be inverted.
    """
    _require_size(weights, image_set)
    editor = load(weights, str(device))
    chosen = [editor.registry.metric(name) for name in ("mse", *(["lpips"] if find_lpips(device) else []))]
    chosen += [_Likeness(embedder)] if embedder is not None else []
    asked = {metric.name: options.model_dump() for metric, options in metrics}
    known = {metric.name: metric for metric in [*chosen, *(metric for metric, _ in metrics)]}
    systems = [System(editor, weights.own_inverter(), {}, label) for label in ("reconstruction", "mean_image")]
    photos = LoadedPhotos(Path("images"), image_set.names, "", image_set)
    plan = Plan(photos, systems, [*known.values()], [], {}, asked, costs=False, plots=False, notes=[])
    stores = {"reconstruction": store or Store(), "mean_image": Store()}
    picture = compared(mean[None], editor.domain)[0]
    for name in image_set.names:
        stores["mean_image"].save_picture(RECONSTRUCTION, name, picture)  # so that nothing is inverted for it
    if failures := run_plan(plan, stores, voice):
        raise StkitError(failures[0])
    names = image_set.names
    errors = {name: stores["reconstruction"].values(RECONSTRUCTION, name) for name in names}
    order = sorted(names, key=lambda name: -errors[name]["mse"])[:worst]
    return {
        "images": len(image_set),
        **{label: _figures(store, names) for label, store in stores.items()},
        "worst": [
            {"file": name, **{key: errors[name][key] for key in ("mse", "lpips") if key in errors[name]}}
            for name in order
        ],
    }


def _figures(store: Store, names: Sequence[str]) -> dict[str, float]:
    """The means of what each photo has, and what all have together."""
    rows = [store.values(RECONSTRUCTION, name) for name in names]
    means = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
    return {**means, **store.sets(names).get(RECONSTRUCTION, {})}


class _Likeness(Metric[Options]):
    """The cosine of embeddings by any network."""

    name = "identity"
    description = "mean cosine of embeddings"
    higher_is_better = True
    paired = True

    def __init__(self, embedder: Callable[[Tensor], Tensor]) -> None:
        self.embedder = embedder

    @torch.no_grad()
    def compute(self, images: Tensor, references: Tensor, options: Options) -> dict[str, float]:
        return {"identity": float((self.embedder(images) * self.embedder(references)).sum(1).mean())}


def evaluate_samples(
    weights: Weights,
    test_set: ImageSet,
    train_set: ImageSet,
    device: torch.device,
    samples: int = 5000,
    on_progress: Callable[[int, int], None] = ignore_progress,
) -> dict[str, float]:
    """How far random samples are from the pictures of `test_set`, and training images, which are the floor.

    Gives the Frechet distances of lite0 features `frechet`, of `samples` images without truncation, and `floor`, of as
    many training images as there are, up to the same number; with `samples` and `train_images` the two numbers. Since
    a projected discriminator looks through lite0 as well, `swd` and `swd_floor` are sliced Wasserstein distances, for
    which no network is needed, of up to 512 images of each, at 256 px where they are larger. Raises UsageError,
    MissingPackageError.
    """
    _require_size(weights, test_set)
    network = load_lite0(device)
    generator = load_generator(weights, device)
    crop = test_set.output_crop
    together = max(1, min(_BATCH, _BATCH * _SWD_SIZE**2 // weights.resolution**2))
    z = torch.randn(samples, generator.config.z_dim, generator=torch.Generator().manual_seed(0))
    chosen = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(0))[:samples]
    total, done = len(test_set) + len(chosen) + samples, 0

    def look(rows: Tensor, make: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Features of all images, and the first of them."""
        nonlocal done
        features: list[Tensor] = []
        first: list[Tensor] = []
        for part in batches(rows, together):
            images = picture_part(make(part), crop)
            features.append(lite0_features(network, [images]))
            if len(first) * together < _SWD_IMAGES:
                first.append(_smaller(images))
            done += len(part)
            on_progress(done, total)
        return torch.cat(features), torch.cat(first)

    with torch.no_grad():
        held_out, photos = look(torch.arange(len(test_set)), lambda part: test_set.batch(part, device))
        seen, known = look(chosen, lambda part: train_set.batch(part, device))
        made, samples_made = look(z, lambda part: generator.synthesize(generator.map(part.to(device))))
    return {
        "frechet": frechet_distance(made, held_out),
        "floor": frechet_distance(seen, held_out),
        "swd": sliced_wasserstein(samples_made, photos)["swd"],
        "swd_floor": sliced_wasserstein(known, photos)["swd"],
        "samples": samples,
        "train_images": len(chosen),
    }


def _smaller(images: Tensor) -> Tensor:
    """512 images of 1024 px would take 6 GB."""
    factor = images.shape[-1] // _SWD_SIZE
    return F.avg_pool2d(images, factor) if factor > 1 else images


def reconstruction_errors(editor: Editor, image_set: ImageSet, store: Store | None = None) -> dict[str, Tensor]:
    """`Editor.errors` [N] of the reconstructions of all images by the weights' own inverter.

    `store` may have their codes. Raises UsageError when the images are not of the generator's size, WeightsError
    without an inverter.
    """
    _require_size(editor.weights, image_set)
    parts = []
    for indices in batches(torch.arange(len(image_set)), _BATCH):
        images = image_set.batch(indices, torch.device("cpu"))
        parts.append(editor.errors(_reconstructions(editor, image_set, indices, store), images))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def reconstruct(weights: Weights, images: Tensor) -> Tensor:
    """Reconstructions [B, 3, R, R] of `images` [B, 3, R, R] in [-1, 1] by the weights' own inverter, on their device.

    Raises WeightsError.
    """
    editor = load(weights, str(images.device))
    return editor.generate(editor.invert_crops(images)).to(images.device)


def _reconstructions(editor: Editor, image_set: ImageSet, rows: Tensor, store: Store | None) -> Tensor:
    """Those [B, 3, R, R] of some images, from the codes in `store` where there is one."""
    if store is None:
        return editor.generate(editor.invert_crops(image_set.batch(rows, editor.device)))
    return torch.cat([editor.generate(store.codes(image_set.names[row])) for row in rows.tolist()])


def mean_image(image_set: ImageSet) -> Tensor:
    """The mean of all images, [3, R, R] in [-1, 1]."""
    total = torch.zeros(image_set.images.shape[1:], dtype=torch.int64)
    for part in batches(image_set.images, 256):
        total += part.sum(0, dtype=torch.int64)
    return total.double().div(len(image_set) * 127.5).sub(1).float()


def reconstruction_grid(
    weights: Weights,
    image_set: ImageSet,
    worst: Sequence[str],
    device: torch.device,
    seed: int = 0,
    store: Store | None = None,
) -> Image.Image:
    """Photos over their reconstructions, in four rows: as many random ones as there are in `worst`, then those.

    Each is at most 256 px wide and high. `worst` are names in `image_set`, as `evaluate_reconstruction` finds them,
    and `store` what it was given. Raises like it.
    """
    _require_size(weights, image_set)
    editor = load(weights, str(device))
    random = torch.randperm(len(image_set), generator=torch.Generator().manual_seed(seed))[: len(worst)]
    tiles = []
    for indices in (random, torch.tensor([image_set.names.index(name) for name in worst])):
        images = image_set.batch(indices, torch.device("cpu"))
        outputs = torch.cat([_reconstructions(editor, image_set, part, store) for part in batches(indices, _BATCH)])
        tiles += [_tile(picture_part(image, image_set.output_crop)) for image in [*images, *outputs]]
    return image_grid(tiles, columns=len(random))


def _tile(image: Tensor) -> Image.Image:
    tile = to_image(image)
    tile.thumbnail((_TILE, _TILE), Image.Resampling.LANCZOS)
    return tile


def _require_size(weights: Weights, image_set: ImageSet) -> None:
    size = image_set.images.shape[-1]
    if size != weights.resolution:
        raise UsageError(
            f"the images have {size} px, but weights '{weights.name}' make {weights.resolution} px; load them at that"
        )


__all__ = [
    "evaluate_quickly",
    "evaluate_reconstruction",
    "evaluate_samples",
    "mean_image",
    "reconstruct",
    "reconstruction_errors",
    "reconstruction_grid",
]
