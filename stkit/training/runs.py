"""What the recipes share: devices and precisions, image sets, the folder of a run and what is written to it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stkit.contracts.domains import DEFAULT_DOMAIN
from stkit.contracts.training import SILENT, Voice
from stkit.errors import UsageError
from stkit.plugins import load_plugins
from stkit.training.config import CodesRecipe, ImageRunConfig, RunConfig

if TYPE_CHECKING:
    import torch

    from stkit.datasets.images import ImageSet
    from stkit.models.shapes import StyleGAN2Config
    from stkit.training.loop import LoopConfig
    from stkit.weights import Header, Weights

_SHAPE = ("resolution", "w_dim", "mapping_layers", "channel_base", "channel_max")


def loop_of(config: RunConfig | CodesRecipe) -> LoopConfig:
    """The loop that a recipe asks for. Raises UsageError when `out` holds a run that is not to go on."""
    from stkit.training.loop import LoopConfig

    seconds = config.save_seconds, config.sample_seconds
    loop = LoopConfig(config.out, config.steps, config.batch, config.seed, config.resume, *seconds)
    loop.require_fresh()
    return loop


def feature_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type of features that "auto", "bf16" or "fp32" stands for. Raises UsageError."""
    import torch

    from stkit.devices import fast_dtype

    names = {"auto": fast_dtype(device), "bf16": torch.bfloat16, "fp32": torch.float32}
    if precision not in names:
        raise UsageError(f"precision '{precision}' is not auto, bf16 or fp32")
    return names[precision]


def image_sets(data: Path, resolution: int, domain: str, voice: Voice = SILENT) -> tuple[ImageSet, ImageSet]:
    """The splits train and val, in the picture part of the domain's squares; see `load_train_val`."""
    from stkit.datasets.images import load_train_val

    output_crop = load_plugins().domain(domain).output_crop
    with voice.bar("reading images") as on_progress:
        train_set, val_set = load_train_val(data, resolution, on_progress, output_crop)
    broken = len(train_set.broken) + len(val_set.broken)
    voice.say(f"{len(train_set)} images to train, {len(val_set)} to validate, {broken} could not be read")
    return train_set, val_set


def require_room(out: Path, kind: str, weights: Weights | None = None) -> None:
    """Raise UsageError when a run cannot write a file of `kind` to `out`.

    There is one that no run has left there, or `out` belongs to another generator than `weights`.
    """
    from stkit.weights import load_header

    path, generator = out / f"{kind}.safetensors", out / "generator.safetensors"
    if path.exists() and not (out / "checkpoint.pt").exists():
        raise UsageError(f"{path} is there already; choose another --out, or move it away")
    if weights and generator.exists() and load_header(generator).fingerprint != weights.fingerprint:
        raise UsageError(f"{out} holds another generator than weights '{weights.name}'; choose another --out")


def shape_of(config: ImageRunConfig, first: StyleGAN2Config | None = None) -> StyleGAN2Config:
    """The generator to train: that of `init` where there is one, which is `first`.

    Raises UsageError when another shape than that is asked for; defaults ask for nothing.
    """
    from stkit.models.shapes import StyleGAN2Config

    asked = [getattr(config, name) for name in _SHAPE]
    resolution, w_dim, *others = asked
    if not 16 <= resolution <= 1024 or resolution & (resolution - 1):
        raise UsageError(f"--resolution {resolution} is no power of two from 16 to 1024; give 128, 256, ...")
    shape = StyleGAN2Config(resolution, w_dim, w_dim, *others)
    if first is None:
        return shape
    for name, value in zip(_SHAPE, asked, strict=True):
        theirs = getattr(first, "img_resolution" if name == "resolution" else name)
        if value not in (theirs, getattr(ImageRunConfig, name)):
            raise UsageError(f"{name} {value} does not fit --init {config.init}, which has {theirs}; leave {name} out")
    return first


def copy_beside(weights: Weights, out: Path, kind: str) -> None:
    """Copy all files of `weights` but those of `kind`, as `kind`-NAME, to `out`, so that `out` is weights itself.

    What is there stays.
    """
    from stkit.files import atomic_path

    for other in weights.kinds():
        target = out / f"{other}.safetensors"
        if other != kind and not other.startswith(f"{kind}-") and not target.exists():
            with atomic_path(target) as temporary:
                temporary.write_bytes(weights.path(other).read_bytes())


def carry_over(weights: Weights, out: Path, generator: str, leave_out: Sequence[str] = ()) -> None:
    """Write all that `weights` have beside their generator to `out`, for the one of the fingerprint `generator` there.

    Files of the kinds in `leave_out` stay behind. It must take the same codes. The usual errors of the inverter were
    another generator's and are left out.
    """
    from stkit.tensors import load_tensors, save_tensors

    for kind in sorted(weights.kinds(), key=lambda kind: kind == "inverter"):  # last: it says that all is there
        if kind not in ("generator", *leave_out):
            header, tensors = load_tensors(weights.path(kind))
            changed = replace(header, generator=generator, space="", notes=lasting_notes(header))
            save_tensors(out / f"{kind}.safetensors", tensors, changed)


def lasting_notes(header: Header) -> dict[str, Any]:
    """What the header of a file says that stays true when its network is trained on, or its generator is another."""
    from stkit.measure.usual import USUAL_ERRORS

    return {name: value for name, value in header.notes.items() if name != USUAL_ERRORS}


def origin(domain: str | None, licence: str | None, first: Weights | None) -> Mapping[str, Any]:
    """Domain, alignment and licence of new weights, by default those of the weights `first` that they start from."""
    if domain is None:
        domain = first.domain if first else DEFAULT_DOMAIN
    template = load_plugins().domain(domain).template
    alignment = first.alignment if first and domain == first.domain else template
    if licence is None:
        licence = first.header.licence if first else "unknown"
    return {"domain": domain, "alignment": alignment, "licence": licence}


def run_notes(data: Path, train_set: ImageSet, loop: LoopConfig) -> dict[str, Any]:
    """What the header of trained weights says about their training; `seconds` are of wall time."""
    from stkit.training.log import seconds_logged

    notes = {"data": data.name, "images": len(train_set), "steps": loop.steps, "batch": loop.batch}
    return {**notes, "seconds": round(seconds_logged(loop.out))}


def training_device(name: str) -> torch.device:
    """The device to train on; under torchrun the processes join here."""
    from stkit.devices import resolve_device
    from stkit.training import parallel

    device = resolve_device(name)
    parallel.start(device)
    return device


def require_one_process(command: str) -> None:
    """Raise UsageError under torchrun."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(f"`train {command}` is one process; start it without torchrun")


def is_first_process() -> bool:
    """Whether this is the process that writes."""
    from stkit.training import parallel

    return parallel.rank() == 0


__all__ = [
    "carry_over",
    "copy_beside",
    "feature_dtype",
    "image_sets",
    "is_first_process",
    "lasting_notes",
    "loop_of",
    "origin",
    "require_one_process",
    "require_room",
    "run_notes",
    "shape_of",
    "training_device",
]
