"""How well weights reconstruct photos that they have not seen, beside the mean image as the least to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from stkit.contracts.inversion import InversionContext, ignore_progress
from stkit.contracts.metrics import Metric
from stkit.contracts.training import SILENT, Voice
from stkit.datasets.images import ImageSet, batches, load_image_set, load_train_val
from stkit.datasets.labels import labels_beside
from stkit.editor.editor import Editor
from stkit.editor.opening import open_editor
from stkit.errors import UsageError
from stkit.jobs.request import QuickRequest
from stkit.measure.distributions import frechet_distance, lite0_features, sliced_wasserstein
from stkit.measure.efficientnet import load_lite0
from stkit.measure.lpips import find_lpips
from stkit.measure.paired import paired_errors
from stkit.measure.usual import store_usual_errors
from stkit.models.registry import load_generator
from stkit.options import Options, build_options
from stkit.photo.images import image_grid, picture_part, save_image, to_image
from stkit.plugins import load_plugins
from stkit.weights import Weights

_BATCH = 16
_SWD_IMAGES = 512


def evaluate_quickly(request: QuickRequest, voice: Voice = SILENT) -> dict[str, Any]:
    """Do what `request` asks for.

    Gives what `evaluate_reconstruction` does, the `split` and the `weights` by name, and with `frechet` as `lite0` what
    `evaluate_samples` does. Raises UsageError, UnknownNameError, WeightsError, StkitError.
    """
    editor = open_editor(request.domain, request.weights, request.device)
    known = {name: editor.registry.metric(name) for name in request.metrics}
    metrics = [(metric, build_options(metric.Options, dict(request.options))) for metric in known.values()]
    held_out, train_set, split = _sets(request, editor, voice)
    weights, device = editor.weights, editor.device
    embedder = editor.domain.load_embedder(weights.alignment, device) if request.identity else None
    with voice.bar("reconstructing") as on_progress:
        report = evaluate_reconstruction(
            weights, held_out, mean_image(train_set), device, embedder, on_progress=on_progress, metrics=metrics
        )
    if request.frechet:
        with voice.bar("features") as on_progress:
            report["lite0"] = evaluate_samples(weights, held_out, train_set, device, request.frechet, on_progress)
    if request.grid:
        worst = [row["file"] for row in report["worst"]]
        save_image(reconstruction_grid(weights, held_out, worst, device), request.grid)
    if request.calibrate:
        store_usual_errors(weights, reconstruction_errors(editor, held_out))
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
    on_progress: Callable[[int, int], None] = ignore_progress,
    metrics: Sequence[tuple[Metric[Any], Options]] = (),
) -> dict[str, Any]:
    """Errors of the reconstructions of `image_set` and of `mean` [3, R, R] (see `mean_image`) in their place.

    Gives `images` (their number), `reconstruction` and `mean_image`, each with the means of `mse` and, where it is
    installed, `lpips` (Alex; both of the picture part, 256 px wide, in [-1, 1]) and, with an embedder
    (`Domain.load_embedder`), of the cosine `identity`, and what `metrics` give for all pictures together, in 8 bits as
    files have them; and `worst`, the files with the highest MSE, each as `file`, `mse`, `lpips`.
    Raises UsageError when the images are not of the generator's size, WeightsError without an inverter.
    """
    _require_size(weights, image_set)
    lpips = find_lpips(device)
    results: dict[str, list[dict[str, Tensor]]] = {"reconstruction": [], "mean_image": []}
    pictures: dict[str, list[Tensor]] = {name: [] for name in (*results, "photos")}
    for indices in batches(torch.arange(len(image_set)), _BATCH):
        images = image_set.batch(indices, device)
        outputs = {"reconstruction": reconstruct(weights, images), "mean_image": mean.to(device).expand_as(images)}
        for name, output in outputs.items():
            errors = paired_errors(output, images, lpips, image_set.output_crop)
            if embedder is not None:
                with torch.no_grad():
                    errors["identity"] = (embedder(output.clamp(-1, 1)) * embedder(images)).sum(1)
            results[name].append(errors)
        for name, made in (*outputs.items(), ("photos", images)) if metrics else ():
            pictures[name].append(_bytes(picture_part(made, image_set.output_crop)))
        on_progress(int(indices[-1]) + 1, len(image_set))
    joined = {
        name: {key: torch.cat([part[key] for part in parts]) for key in parts[0]} for name, parts in results.items()
    }
    figures = {name: {key: float(value.mean()) for key, value in values.items()} for name, values in joined.items()}
    for name in figures if metrics else ():
        made, photos = (_floats(torch.cat(pictures[key]), device) for key in (name, "photos"))
        for metric, options in metrics:
            figures[name] |= metric.compute(made, photos, options)
    errors = joined["reconstruction"]
    order = errors["mse"].argsort(descending=True)[:worst].tolist()
    return {
        "images": len(image_set),
        **figures,
        "worst": [
            {"file": image_set.names[i], **{key: float(errors[key][i]) for key in ("mse", "lpips") if key in errors}}
            for i in order
        ],
    }


def _bytes(images: Tensor) -> Tensor:
    """Images in [-1, 1] as a file has them, on the CPU."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().byte().cpu()


def _floats(images: Tensor, device: torch.device) -> Tensor:
    return images.to(device).float().div(127.5).sub(1)


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
    which no network is needed, of up to 512 images of each. Raises UsageError, MissingPackageError.
    """
    _require_size(weights, test_set)
    network = load_lite0(device)
    generator = load_generator(weights, device)
    crop = test_set.output_crop
    z = torch.randn(samples, generator.config.z_dim, generator=torch.Generator().manual_seed(0))
    chosen = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(0))[:samples]
    total, done = len(test_set) + len(chosen) + samples, 0

    def look(rows: Tensor, make: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Features of all images, and the first of them."""
        nonlocal done
        features: list[Tensor] = []
        first: list[Tensor] = []
        for part in batches(rows, _BATCH):
            images = picture_part(make(part), crop)
            features.append(lite0_features(network, [images]))
            if len(first) * _BATCH < _SWD_IMAGES:
                first.append(images)
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


def reconstruction_errors(editor: Editor, image_set: ImageSet) -> dict[str, Tensor]:
    """`Editor.errors` [N] of the reconstructions of all images by the weights' own inverter.

    Raises UsageError when the images are not of the generator's size, WeightsError without an inverter.
    """
    _require_size(editor.weights, image_set)
    parts = []
    for indices in batches(torch.arange(len(image_set)), _BATCH):
        images = image_set.batch(indices, torch.device("cpu"))
        parts.append(editor.errors(editor.generate(editor.invert_crops(images)), images))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def reconstruct(weights: Weights, images: Tensor) -> Tensor:
    """Reconstructions [B, 3, R, R] of `images` [B, 3, R, R] in [-1, 1] by the weights' own inverter, on their device.

    Raises WeightsError.
    """
    inverter = load_plugins().inverter_for(weights)
    latents = inverter.invert(images, inverter.Options(), InversionContext(weights, images.device))
    return load_generator(weights, images.device).synthesize(latents.codes.to(images.device))


def mean_image(image_set: ImageSet) -> Tensor:
    """The mean of all images, [3, R, R] in [-1, 1]."""
    total = torch.zeros(image_set.images.shape[1:], dtype=torch.int64)
    for part in batches(image_set.images, 256):
        total += part.sum(0, dtype=torch.int64)
    return total.double().div(len(image_set) * 127.5).sub(1).float()


def reconstruction_grid(
    weights: Weights, image_set: ImageSet, worst: Sequence[str], device: torch.device, seed: int = 0
) -> Image.Image:
    """Photos over their reconstructions, in four rows: as many random ones as there are in `worst`, then those.

    `worst` are names in `image_set`, as `evaluate_reconstruction` finds them. Raises like it.
    """
    _require_size(weights, image_set)
    random = torch.randperm(len(image_set), generator=torch.Generator().manual_seed(seed))[: len(worst)]
    tiles = []
    for indices in (random, torch.tensor([image_set.names.index(name) for name in worst])):
        images = image_set.batch(indices, device)
        outputs = torch.cat([reconstruct(weights, part) for part in batches(images, _BATCH)])
        tiles += [to_image(picture_part(image, image_set.output_crop)) for image in [*images, *outputs]]
    return image_grid(tiles, columns=len(random))


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
