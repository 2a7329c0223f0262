"""Inverted codes of labelled photos, kept in the cache so that a photo is inverted once.

The cache is a folder for each inverter and generator, of safetensors files that hold a few hundred
codes each under the sha256 of the photo file: an interrupted inversion goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from stkit.contracts.domains import Domain
from stkit.contracts.inversion import InversionContext, Inverter, ignore_progress
from stkit.datasets.images import ImageFiles, decode_image, frame_largest, without_name
from stkit.datasets.labels import Labels, match_photos
from stkit.errors import LabelsError, OutputError, PhotoError, StkitError, SubjectError
from stkit.files import atomic_path, parse_json, require_file
from stkit.options import LatentSpace, Options
from stkit.photo.reading import decode_photo
from stkit.plugins import load_plugins
from stkit.weights import Weights, cache_folder, load_header

logger = logging.getLogger("stkit")

_CHUNK = 512
_BATCH = 16

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class LabelledCodes:
    """Codes [N, num_ws, w_dim] float32 of photos with their labels `values` [N, K] float32, NaN where unknown.

    `val` [N] bool marks the rows held out for validation; `names` are the photos' paths in their source.
    """

    names: tuple[str, ...]
    attributes: tuple[str, ...]
    codes: Tensor
    values: Tensor
    val: Tensor


def labelled_codes(
    weights: Weights,
    labels: Labels,
    source: Path,
    columns: Sequence[tuple[str, str | None]],
    inverter: Inverter,
    device: torch.device,
    on_progress: Progress = ignore_progress,
    domain: Domain | None = None,
) -> LabelledCodes:
    """Invert the photos of `source` (folder or archive) that have a label in one of `columns`; see `invert_files`.

    A column is (name, positive), as `Labels.column` takes it; without columns all photos are taken. The
    rows are those of the splits train and val; without a split column every 25th row is for validation.
    Raises LabelsError when a split is empty, and what `Labels.column`, `match_photos` and `invert_files` raise.
    """
    values = np.empty((len(labels), len(columns)))
    for k, (name, positive) in enumerate(columns):
        values[:, k] = labels.column(name, positive)
    files = ImageFiles(source)
    photos = match_photos(labels, files.names)
    rows = [row for row in sorted(photos) if not columns or np.isfinite(values[row]).any()]
    split = labels.split
    if split is not None:
        rows = [row for row in rows if split[row] in ("train", "val")]
        held_out = {row for row in rows if split[row] == "val"}
    else:
        held_out = set(rows[24::25] or rows[-1:])
    missing = [name for name, there in (("train", len(rows) > len(held_out)), ("val", bool(held_out))) if not there]
    if missing:
        raise LabelsError(f"{labels.path} has no labelled photo of the split '{missing[0]}' in {source}; it needs some")
    codes, broken = invert_files(weights, source, [photos[row] for row in rows], inverter, device, on_progress, domain)
    kept = [row for row in rows if photos[row] not in broken]
    return LabelledCodes(
        tuple(photos[row] for row in kept),
        tuple(name for name, _ in columns),
        codes,
        torch.from_numpy(values[kept]).float(),
        torch.tensor([row in held_out for row in kept]),
    )


def invert_files(
    weights: Weights,
    source: Path,
    names: Sequence[str],
    inverter: Inverter,
    device: torch.device,
    on_progress: Progress = ignore_progress,
    domain: Domain | None = None,
) -> tuple[Tensor, frozenset[str]]:
    """w_plus codes [N, num_ws, w_dim] of the photos `names` in `source`, by the inverter with default options.

    `source` is a folder or an archive of images that are framed as the weights' training data were, or of photos in
    which `domain` finds the largest subject and frames it. The second value names the photos that cannot be read
    or show no subject, which are logged and have no row. Raises StkitError when none is left, WeightsError
    without an inverter.
    """
    cache = CodesCache(weights, inverter, domain)
    keys: list[str] = []
    broken: set[str] = set()
    waiting: list[tuple[str, Tensor]] = []

    def invert_waiting() -> None:
        codes = invert_crops(weights, [crop for _, crop in waiting], inverter, device)
        for (key, _), row in zip(waiting, codes, strict=True):
            cache.add(key, row)
        waiting.clear()

    files = ImageFiles(source)
    with cache:
        for done, name in enumerate(names, 1):
            try:
                data = files.read(name)
                key = hashlib.sha256(data).hexdigest()
                if key not in cache and key not in (other for other, _ in waiting):
                    waiting.append((key, frame_pixels(weights, data, name, domain)))
                keys.append(key)
            except (PhotoError, SubjectError) as error:
                logger.warning("skipped %s: %s", name, without_name(error, name))
                broken.add(name)
            if len(waiting) == _BATCH:
                invert_waiting()
            on_progress(done, len(names))
        if waiting:
            invert_waiting()
    if not keys:
        raise StkitError(f"no readable photo among the {len(names)} labelled ones in {source}")
    return torch.stack([cache[key] for key in keys]), frozenset(broken)


def frame_pixels(weights: Weights, data: bytes, name: str, domain: Domain | None) -> Tensor:
    """A photo's bytes as uint8 [3, R, R]; as it is, or its largest subject that `domain` finds.

    Raises PhotoError, SubjectError.
    """
    if domain:
        photo = decode_photo(data, Path(name)).image
        pixels = np.asarray(frame_largest(photo, domain, weights.alignment, weights.resolution))
    else:
        output_crop = load_plugins().domain(weights.domain).output_crop
        pixels = decode_image(data, name, weights.resolution, output_crop)
    return torch.tensor(pixels).permute(2, 0, 1)


def invert_crops(weights: Weights, crops: Sequence[Tensor], inverter: Inverter, device: torch.device) -> Tensor:
    """w_plus codes [N, num_ws, w_dim], on the CPU, of crops uint8 [3, R, R]. Raises StkitError for other codes."""
    pixels = torch.stack(list(crops)).to(device).float().div(127.5).sub(1)
    latents = inverter.invert(pixels, inverter.Options(), InversionContext(weights, device))
    if latents.space is not LatentSpace.W_PLUS:
        raise StkitError(f"inverter '{inverter.name}' gives {latents.space} codes; choose one that gives w_plus")
    return latents.codes.cpu()


class CodesCache:
    """Codes by the sha256 of their photo's file, for one inverter of one generator and one way of framing."""

    def __init__(self, weights: Weights, inverter: Inverter[Options], domain: Domain | None) -> None:
        # An inverter without a network of its own may begin with the codes of the weights' own.
        network = weights.path(weights.inverters().get(inverter.name, "inverter"))
        identity = {
            "generator": weights.fingerprint,
            "network": load_header(network).fingerprint if network.exists() else None,
            "inverter": inverter.name,
            "options": inverter.Options().model_dump(mode="json"),
            "framed by": [domain.name, weights.alignment.to_dict()] if domain else None,
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.folder = cache_folder() / "codes" / digest
        self.codes: dict[str, Tensor] = {}
        self.fresh: dict[str, Tensor] = {}
        for path in sorted(self.folder.glob("[!.]*.safetensors")):
            try:
                require_file(path)
                with safetensors.safe_open(path, framework="pt") as file:
                    keys = parse_json((file.metadata() or {})["photos"])
                    self.codes.update(zip(keys, file.get_tensor("codes").float(), strict=True))
            except (OSError, safetensors.SafetensorError, KeyError, ValueError):
                logger.warning("%s is damaged and left aside; its photos are inverted again", path)

    def __enter__(self) -> None:
        """Whatever ends the block, Ctrl-C too, what was inverted in it is kept."""

    def __exit__(self, *_: object) -> None:
        self.flush()

    def __contains__(self, key: str) -> bool:
        return key in self.codes

    def __getitem__(self, key: str) -> Tensor:
        return self.codes[key]

    def add(self, key: str, codes: Tensor) -> None:
        self.codes[key] = self.fresh[key] = codes.float().clone()
        if len(self.fresh) >= _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Write what is new as one more file; a cache that cannot be written costs time, not the result."""
        if not self.fresh:
            return
        keys = list(self.fresh)
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:24]
        data = safetensors.torch.save(
            {"codes": torch.stack(list(self.fresh.values()))}, metadata={"photos": json.dumps(keys)}
        )
        try:
            with atomic_path(self.folder / f"{name}.safetensors") as temporary:
                temporary.write_bytes(data)
        except OutputError as error:
            logger.warning("the inverted codes are not kept: %s", error)
        self.fresh.clear()


__all__ = ["CodesCache", "LabelledCodes", "frame_pixels", "invert_crops", "invert_files", "labelled_codes"]
