"""`stkit train domain`: from a folder of photos to weights that `--weights NAME` finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stkit.cli.common import DeviceFlag, console, progress_bar
from stkit.cli.train import generator, mapping, reconstruction
from stkit.cli.train.common import (
    DEFAULT_SHAPE,
    BaseFlag,
    BatchFlag,
    CompileFlag,
    LayersFlag,
    LicenceFlag,
    MaxFlag,
    PrecisionFlag,
    ResolutionFlag,
    ResumeFlag,
    SampleFlag,
    SaveFlag,
    SeedFlag,
    StepsFlag,
    WDimFlag,
    require_one_process,
)
from stkit.errors import UsageError
from stkit.plugins import load_plugins

if TYPE_CHECKING:
    from stkit.weights import Weights

# Of the adversarial stage after reconstruction, tried on the faces (docs/models/faces.md).
KEEP, WARMUP, SHARPEN_RATE = 200.0, 50, 5e-4


def run(
    photos: Annotated[Path, typer.Argument(help="A folder or a zip of photos, as they are.")],
    name: Annotated[str, typer.Option("--name", help="What the weights will be called.")],
    domain: Annotated[str, typer.Option("--domain", help="Who aligns the photos; see `stkit domains`.")] = "plain",
    aligned: Annotated[bool, typer.Option("--aligned", help="The photos are aligned for the domain already.")] = False,
    resolution: ResolutionFlag = DEFAULT_SHAPE["img_resolution"],
    steps: StepsFlag = 3000,
    mapping_steps: Annotated[
        int, typer.Option("--mapping-steps", min=0, help="Steps after it that make samples look like the photos.")
    ] = 5000,
    sharpen: Annotated[
        int, typer.Option("--sharpen", min=0, help="Steps after those that make samples and reconstructions sharper.")
    ] = 0,
    batch: BatchFlag = 32,
    w_dim: WDimFlag = DEFAULT_SHAPE["w_dim"],
    mapping_layers: LayersFlag = 6,
    channel_base: BaseFlag = DEFAULT_SHAPE["channel_base"],
    channel_max: MaxFlag = DEFAULT_SHAPE["channel_max"],
    licence: LicenceFlag = "unknown",
    resume: ResumeFlag = False,
    seed: SeedFlag = 0,
    precision: PrecisionFlag = "auto",
    compile: CompileFlag = True,
    save_seconds: SaveFlag = 120,
    sample_seconds: SampleFlag = 300,
    device: DeviceFlag = "auto",
) -> None:
    """Train everything for photos of your own: generator, inverter and what editing methods need without labels."""
    from stkit.checkpoints.importing import check_name
    from stkit.devices import resolve_device
    from stkit.files import write_text
    from stkit.measure.efficientnet import load_lite0
    from stkit.weights import find_weights, user_folder, weights_names

    require_one_process("domain")
    check_name(name)
    target, work = user_folder() / name, user_folder().parent / "training" / name
    if resume and name in weights_names() and not work.exists():
        raise UsageError(f"no training is called '{name}', only weights; choose another name")
    if not resume and (name in weights_names() or work.exists()):
        raise UsageError(f"there are weights or a training called '{name}'; go on with --resume or choose another")
    if mapping_steps and mapping_layers < 3:
        raise UsageError(f"{mapping_layers} mapping layers cannot be trained; give 3 or more, or --mapping-steps 0")
    chosen_device = resolve_device(device)
    if sharpen:
        load_lite0()  # not to miss it when hours of training are over
    pictures = {"domain": domain, "resolution": resolution, "aligned": aligned}
    _require_same_pictures(work / "pictures.json", pictures)
    data = photos if aligned else _prepare(photos, domain, resolution, work)
    write_text(work / "pictures.json", json.dumps(pictures))

    first = work / "reconstruction"
    mapped = work / "mapping" if mapping_steps else first
    final = work / "sharpened" if sharpen else mapped
    every: dict[str, Any] = {"resume": True, "seed": seed, "precision": precision}
    every |= {"save_seconds": save_seconds, "sample_seconds": sample_seconds, "device": device}
    images: dict[str, Any] = {"batch": batch, "compile": compile, "domain": domain, "licence": licence, **every}
    shape: dict[str, Any] = {"resolution": resolution, "w_dim": w_dim, "mapping_layers": mapping_layers}
    shape |= {"channel_base": channel_base, "channel_max": channel_max}
    if not _done(first, steps):
        _require_none_later(work, "mapping", "sharpened")
        reconstruction.run(data, first, steps, **shape, **images)
    if mapping_steps and _done(first, steps) and not _done(mapped, mapping_steps):
        _require_none_later(work, "sharpened")
        mapping.run(data, mapped, str(first), mapping_steps, mapping_layers=mapping_layers, **every)
    if sharpen and _done(mapped, mapping_steps or steps) and not _done(final, sharpen):
        against: dict[str, Any] = {"discriminator": "projected", "keep": KEEP, "warmup": min(WARMUP, sharpen // 10)}
        generator.run(data, final, sharpen, init=str(mapped), learning_rate=SHARPEN_RATE, **against, **images)
    if not _done(final, sharpen or mapping_steps or steps):
        return  # interrupted: the loop has said how to go on
    weights = find_weights(str(final))
    for method in load_plugins().editing_methods.values():
        method.prepare(weights, chosen_device)
    _install(weights, target)
    console.print(f"done; use it with --weights {name}, it is in {target}")


def _require_same_pictures(path: Path, pictures: dict[str, Any]) -> None:
    """Raise UsageError when the training was begun with pictures made otherwise, as the file `path` says."""
    if path.exists() and (begun := json.loads(path.read_text())) != pictures:
        said = ", ".join(f"{key} {value}" for key, value in begun.items())
        raise UsageError(f"this training was begun with {said}; give the same, or choose another --name")


def _prepare(photos: Path, domain: str, resolution: int, work: Path) -> Path:
    from stkit.datasets.prepare import prepare_photos
    from stkit.files import write_text

    with progress_bar("aligning photos") as on_progress:
        prepared = prepare_photos(
            photos, load_plugins().domain(domain), resolution, work / f"photos-{domain}-{resolution}", on_progress
        )
    console.print(f"{prepared.count} photos aligned, {len(prepared.skipped)} left out")
    lines = [f"{name}: {reason}" for name, reason in prepared.skipped.items()]
    lines += [f"{name}: has a label, but is not among the photos" for name in prepared.unmatched]
    if lines:
        write_text(work / "left-out.txt", "\n".join(lines) + "\n")
        for line in lines[:5]:
            console.print(f"  {line}")
        if len(lines) > 5:
            console.print(f"  ... all {len(lines)} in {work / 'left-out.txt'}")
    return prepared.folder


def _done(folder: Path, steps: int) -> bool:
    """Whether a stage has left its weights after `steps` steps."""
    from stkit.weights import load_header

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
    from stkit.files import atomic_path

    for kind in sorted(weights.kinds(), key=lambda kind: kind == "generator"):
        with atomic_path(target / weights.path(kind).name) as temporary:
            shutil.copyfile(weights.path(kind), temporary)


__all__ = ["run"]
