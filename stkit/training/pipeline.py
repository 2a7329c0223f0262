"""From a folder of photos to weights that `--weights NAME` finds: the stages of `stkit train domain`, in turn.

Every stage may be interrupted; the same recipe with `resume` goes on.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from stkit.checkpoints.importing import check_name
from stkit.contracts.training import SILENT, Voice
from stkit.datasets.images import ImageFiles, require_enough
from stkit.datasets.prepare import prepare_photos
from stkit.devices import resolve_device
from stkit.errors import UsageError
from stkit.files import atomic_path, read_left, write_text
from stkit.measure.efficientnet import load_lite0
from stkit.plugins import load_plugins
from stkit.training.config import DomainRecipe, GeneratorRecipe, MappingRecipe, ReconstructionRecipe
from stkit.training.recipes import train_generator, train_mapping, train_reconstruction
from stkit.training.runs import feature_dtype, require_one_process, shape_of
from stkit.weights import Weights, find_weights, load_header, user_folder, weights_names

# Of the adversarial stage after reconstruction, tried on the faces (docs/models/faces.md).
KEEP, WARMUP, SHARPEN_RATE = 200.0, 50, 5e-4
_SHAPE = ("resolution", "w_dim", "mapping_layers", "channel_base", "channel_max")


def train_domain(recipe: DomainRecipe, voice: Voice = SILENT) -> Weights | None:
    """Train generator, inverter and what editing methods need without labels; None when it was interrupted.

    The stages and their checkpoints are in the folder `training` beside the user's weights. Raises UsageError,
    StkitError.
    """
    require_one_process("domain")
    target, work = _folders(recipe)
    device = resolve_device(recipe.device)
    feature_dtype(recipe.precision, device)
    shape_of(ReconstructionRecipe(recipe.photos, work, **_fields(recipe, *_SHAPE)))  # before photos are aligned for it
    if recipe.sharpen:
        load_lite0()  # not to miss it when hours of training are over
    pictures = {"domain": recipe.domain, "resolution": recipe.resolution, "aligned": recipe.aligned}
    _require_same_pictures(work / "pictures.json", pictures)
    data = recipe.photos if recipe.aligned else _prepare(recipe, work, voice)
    write_text(work / "pictures.json", json.dumps(pictures))
    final = _train_stages(recipe, data, work, voice)
    if final is None:
        return None
    weights = find_weights(final)
    for method in load_plugins().editing_methods.values():
        method.prepare(weights, device)
    _install(weights, target)
    voice.say(f"done; use it with --weights {recipe.name}, it is in {target}")
    return find_weights(target)


def _folders(recipe: DomainRecipe) -> tuple[Path, Path]:
    """Where the weights will be, and where the stages are. Raises UsageError for names that are taken or cannot be."""
    name = recipe.name
    check_name(name)
    target, work = user_folder() / name, user_folder().parent / "training" / name
    if recipe.resume and name in weights_names() and not work.exists():
        raise UsageError(f"no training is called '{name}', only weights; choose another name")
    if not recipe.resume and (name in weights_names() or work.exists()):
        raise UsageError(f"there are weights or a training called '{name}'; go on with --resume or choose another")
    layers = recipe.mapping_layers
    if recipe.mapping_steps and layers < 3:
        raise UsageError(f"{layers} mapping layers cannot be trained; give 3 or more, or -o mapping_steps=0")
    return target, work


def _train_stages(recipe: DomainRecipe, data: Path, work: Path, voice: Voice) -> Path | None:
    """Train what is not done yet; the folder of the last stage, None when it was interrupted."""
    first = work / "reconstruction"
    mapped = work / "mapping" if recipe.mapping_steps else first
    final = work / "sharpened" if recipe.sharpen else mapped
    every: dict[str, Any] = {"resume": True}
    every |= _fields(recipe, "seed", "precision", "save_seconds", "sample_seconds", "device")
    images = every | _fields(recipe, "batch", "compile", "domain", "licence")
    done = True
    if not _done(first, recipe.steps):
        _require_none_later(work, "mapping", "sharpened")
        shape = _fields(recipe, *_SHAPE)
        done = train_reconstruction(ReconstructionRecipe(data, first, recipe.steps, **shape, **images), voice)
    if recipe.mapping_steps and done and not _done(mapped, recipe.mapping_steps):
        _require_none_later(work, "sharpened")
        layers = recipe.mapping_layers
        mapping = MappingRecipe(data, mapped, recipe.mapping_steps, init=str(first), mapping_layers=layers, **every)
        done = train_mapping(mapping, voice)
    if recipe.sharpen and done and not _done(final, recipe.sharpen):
        against: dict[str, Any] = {"discriminator": "projected", "keep": KEEP, "learning_rate": SHARPEN_RATE}
        against |= {"warmup": min(WARMUP, recipe.sharpen // 10), "init": str(mapped)}
        done = train_generator(GeneratorRecipe(data, final, recipe.sharpen, **against, **images), voice)
    return final if done else None


def _fields(recipe: DomainRecipe, *names: str) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in names}


def _require_same_pictures(path: Path, pictures: dict[str, Any]) -> None:
    """Raise UsageError when the training was begun with pictures made otherwise, as the file `path` says."""
    if path.exists() and (begun := read_left(path)) != pictures:
        said = ", ".join(f"{key} {value}" for key, value in begun.items())
        raise UsageError(f"this training was begun with {said}; give the same, or choose another --name")


def _prepare(recipe: DomainRecipe, work: Path, voice: Voice) -> Path:
    domain = load_plugins().domain(recipe.domain)
    folder = work / f"photos-{recipe.domain}-{recipe.resolution}"
    require_enough(len(ImageFiles(recipe.photos).names), recipe.photos)  # before they are aligned
    with voice.bar("aligning photos") as on_progress:
        prepared = prepare_photos(recipe.photos, domain, recipe.resolution, folder, on_progress)
    voice.say(f"{prepared.count} photos aligned, {len(prepared.skipped)} left out")
    lines = [f"{name}: {reason}" for name, reason in prepared.skipped.items()]
    lines += [f"{name}: has a label, but is not among the photos" for name in prepared.unmatched]
    if lines:
        write_text(work / "left-out.txt", "\n".join(lines) + "\n")
        for line in lines[:5]:
            voice.say(f"  {line}")
        if len(lines) > 5:
            voice.say(f"  ... all {len(lines)} in {work / 'left-out.txt'}")
    require_enough(prepared.count, recipe.photos)
    return prepared.folder


def _done(folder: Path, steps: int) -> bool:
    """Whether a stage has left its weights after `steps` steps."""
    generator, inverter = (folder / f"{kind}.safetensors" for kind in ("generator", "inverter"))
    if not generator.is_file() or not inverter.is_file():
        return False
    header = load_header(generator)
    # A stage that was killed between the two files is exported again.
    return header.notes.get("steps") == steps and load_header(inverter).generator == header.fingerprint


def _require_none_later(work: Path, *stages: str) -> None:
    """Raise UsageError when a stage has begun from what is about to change."""
    for stage in stages:
        if (work / stage).exists():
            raise UsageError(f"'{work.name}' is past that already; delete {work / stage}, which began from it, first")


def _install(weights: Weights, target: Path) -> None:
    """Copy a weights folder; the generator, by which a folder is found, comes last."""
    for kind in sorted(weights.kinds(), key=lambda kind: kind == "generator"):
        with atomic_path(target / weights.path(kind).name) as temporary:
            shutil.copyfile(weights.path(kind), temporary)


__all__ = ["train_domain"]
