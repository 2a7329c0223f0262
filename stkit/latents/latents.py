"""Latent codes and their file format: safetensors holding the codes and where they came from."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from stkit.errors import LatentsError, UsageError
from stkit.files import atomic_path
from stkit.latents.tuning import Tuning, load_tuning, save_tuning
from stkit.options import LatentSpace, LayerRange

_FORMAT = "stkit-latents-1"


@dataclass(frozen=True)
class Provenance:
    """Where one row of codes came from.

    `transform` is the 2x3 affine matrix that takes crop pixel coordinates to coordinates of the
    upright photo (EXIF orientation applied), both with the centre of the top left pixel at (0, 0).
    """

    photo: str | None = None
    photo_sha256: str | None = None
    transform: tuple[tuple[float, ...], ...] | None = None
    weights: str | None = None
    inverter: str | None = None
    edits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Latents:
    """A batch of latent codes of one generator.

    `codes` is float32, [B, num_ws, w_dim] in w_plus and [B, w_dim] in w; `generator` is the
    fingerprint of the generator; `provenance` has one entry a row, or none at all. `style_offsets`,
    float32 [B, channels of all style layers], is added to the styles that the codes give (StyleSpace,
    Wu et al. 2021), in the order of `SynthesisNetwork.styles`; None is no offset. `base`, of the
    shape of `codes`, is what the codes were before the first edit; None when they are not edited.
    `tuning` is what PTI changed in the generator for them.
    """

    codes: torch.Tensor
    generator: str
    space: LatentSpace = LatentSpace.W_PLUS
    provenance: tuple[Provenance, ...] = ()
    style_offsets: torch.Tensor | None = None
    base: torch.Tensor | None = None
    tuning: Tuning | None = None

    def __post_init__(self) -> None:
        dims = {LatentSpace.W: 2, LatentSpace.W_PLUS: 3}[self.space]
        if self.codes.ndim != dims:
            raise LatentsError(f"{self.space} codes need {dims} dimensions, got {tuple(self.codes.shape)}")
        if self.provenance and len(self.provenance) != len(self.codes):
            raise LatentsError(f"{len(self.codes)} codes but {len(self.provenance)} provenance entries")
        if self.style_offsets is not None and self.style_offsets.shape[:-1] != self.codes.shape[:1]:
            raise LatentsError(f"{len(self.codes)} codes but style offsets of shape {tuple(self.style_offsets.shape)}")
        if self.base is not None and self.base.shape != self.codes.shape:
            raise LatentsError(f"codes {tuple(self.codes.shape)}, but before the edits {tuple(self.base.shape)}")

    def __len__(self) -> int:
        return len(self.codes)

    def row(self, index: int) -> Latents:
        """The row `index` alone, with its provenance."""
        rows = slice(index, index + 1)
        offsets, base = (None if part is None else part[rows].clone() for part in (self.style_offsets, self.base))
        provenance = self.provenance[rows]
        return Latents(self.codes[rows].clone(), self.generator, self.space, provenance, offsets, base, self.tuning)

    def replace(self, codes: torch.Tensor, edit: str | None = None) -> Latents:
        """The same rows with other codes; `edit` is noted in each row's provenance, and the first codes are kept."""
        if edit is None:
            return dataclasses.replace(self, codes=codes)
        rows = self.provenance or (Provenance(),) * len(codes)
        provenance = tuple(dataclasses.replace(row, edits=(*row.edits, edit)) for row in rows)
        base = self.codes if self.base is None else self.base
        return dataclasses.replace(self, codes=codes, provenance=provenance, base=base)

    def unedited(self) -> Latents:
        """The same rows as they were before any edit."""
        rows = tuple(dataclasses.replace(row, edits=()) for row in self.provenance)
        codes = self.codes if self.base is None else self.base
        return Latents(codes, self.generator, self.space, rows, tuning=self.tuning)

    def require_generator(self, fingerprint: str, name: str) -> None:
        """Raise LatentsError unless these codes belong to the generator `name`."""
        if self.generator != fingerprint:
            raise LatentsError(
                f"the latents belong to generator {self.generator[:12]}, but weights '{name}' have generator "
                f"{fingerprint[:12]}; choose the weights they were made with, or invert the photo again"
            )


def join_latents(parts: Sequence[Latents]) -> Latents:
    """The rows of all `parts` in one batch. Raises LatentsError unless they share generator, tuning and space."""
    first = parts[0]
    if len({_tuned(part) for part in parts}) > 1:
        raise LatentsError("latents with generators tuned for each (PTI) cannot be joined; edit them one by one")
    if any((part.generator, part.space) != (first.generator, first.space) for part in parts):
        raise LatentsError("latents of several generators or spaces cannot be joined; invert the photos with one")
    rows = [row for part in parts for row in part.provenance or (Provenance(),) * len(part)]
    base = None
    if any(part.base is not None for part in parts):
        base = torch.cat([part.codes if part.base is None else part.base for part in parts])
    codes = torch.cat([part.codes for part in parts])
    offsets = None
    given = [part.style_offsets for part in parts if part.style_offsets is not None]
    if given:
        none = given[0].new_zeros(given[0].shape[1:])
        offsets = torch.cat(
            [none.expand(len(part), -1) if part.style_offsets is None else part.style_offsets for part in parts]
        )
    return Latents(codes, first.generator, first.space, tuple(rows), offsets, base, first.tuning)


def _tuned(latents: Latents) -> str | None:
    return latents.tuning.fingerprint if latents.tuning else None


def mix(first: Latents, second: Latents, amount: float = 0.5, layers: LayerRange | None = None) -> Latents:
    """`first` moved towards `second` by `amount` (0: first, 1: second), in all layers or in `layers` alone.

    With amount 1 and some layers this is style mixing (Karras et al., CVPR 2019). `second` has one row, or as many as
    `first`. Raises LatentsError when they do not fit, UsageError for layers of w codes or beyond the generator's.
    """
    second.require_generator(first.generator, "of the first codes")
    if _tuned(first) != _tuned(second):
        raise LatentsError("codes with generators tuned for each (PTI) do not mix; invert without --refine pti")
    if first.space is not second.space:
        raise LatentsError(f"{first.space} codes and {second.space} codes do not mix; invert one of the photos again")
    if len(second) not in (1, len(first)):
        raise LatentsError(f"{len(second)} codes do not mix with {len(first)}; give one, or as many")
    if layers and first.space is LatentSpace.W:
        raise UsageError("w codes have no layers; leave --layers out")
    if first.style_offsets is not None or second.style_offsets is not None:
        raise LatentsError("codes that were edited in StyleSpace do not mix; mix those from before that edit")
    codes = first.codes.clone()
    rows = slice(None) if layers is None else slice(layers.first, layers.indices(codes.shape[1]).stop)
    codes[:, rows] = torch.lerp(codes[:, rows], second.codes.expand_as(codes)[:, rows], amount)
    return first.replace(codes, f"mix:{amount:g}" + (f":layers{layers}" if layers else ""))


def average(latents: Latents) -> Latents:
    """The mean of all rows, as one row. Raises LatentsError when there is none."""
    if not len(latents):
        raise LatentsError("there are no codes to average; give at least one")
    weights = {row.weights for row in latents.provenance}
    row = Provenance(weights=weights.pop() if len(weights) == 1 else None, edits=(f"average of {len(latents)}",))
    offsets = latents.style_offsets
    mean = None if offsets is None else offsets.mean(0, keepdim=True)
    return Latents(
        latents.codes.mean(0, keepdim=True), latents.generator, latents.space, (row,), mean, tuning=latents.tuning
    )


def interpolate(keys: Latents, count: int) -> Latents:
    """`count` codes along the straight lines between the rows of `keys`, ends included, without provenance.

    Raises UsageError unless there are at least two keys and as many codes as keys.
    """
    if not 2 <= len(keys) <= count:
        raise UsageError(f"{count} frames do not reach over {len(keys)} codes; give two codes and as many frames")
    place = torch.linspace(0, len(keys) - 1, count)
    left = place.long().clamp(max=len(keys) - 2)

    def between(values: torch.Tensor) -> torch.Tensor:
        share = (place - left).reshape(-1, *[1] * (values.ndim - 1))
        return torch.lerp(values[left], values[left + 1], share)

    offsets = None if keys.style_offsets is None else between(keys.style_offsets)
    return Latents(between(keys.codes), keys.generator, keys.space, style_offsets=offsets, tuning=keys.tuning)


def save_latents(latents: Latents, path: Path | str) -> None:
    """Write `latents` to a safetensors file, complete or not at all, and their tuning beside it. Raises OutputError."""
    path = Path(path)
    save_latents_tuning(latents, path.parent)
    with atomic_path(path) as temporary:
        # Not save_file: its errors on a full disk are no OSError.
        temporary.write_bytes(encode_latents(latents))


def save_latents_tuning(latents: Latents, folder: Path) -> None:
    """Write the tuning of `latents`, if they have one, to the folder of their file. Raises OutputError."""
    if latents.tuning is not None:
        save_tuning(latents.tuning, folder)


def encode_latents(latents: Latents) -> bytes:
    """The bytes of a latent file; `save_latents_tuning` writes what belongs beside it."""
    header = {
        "format": _FORMAT,
        "space": str(latents.space),
        "generator": latents.generator,
        "provenance": json.dumps([dataclasses.asdict(row) for row in latents.provenance]),
    }
    if latents.tuning is not None:
        header["tuning"] = latents.tuning.fingerprint
    tensors = {"codes": latents.codes}
    if latents.style_offsets is not None:
        tensors["style_offsets"] = latents.style_offsets
    if latents.base is not None:
        tensors["base"] = latents.base
    stored = {name: value.detach().to("cpu", torch.float32).contiguous() for name, value in tensors.items()}
    return _sorted_header(safetensors.torch.save(stored, metadata=header))


def _sorted_header(data: bytes) -> bytes:
    """The same file with its header's keys in order: safetensors writes them in another one each time."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]


def load_latents(path: Path | str) -> Latents:
    """Read a file written by `save_latents`. Raises LatentsError when it is anything else."""
    path = Path(path)
    if not path.name.endswith(".safetensors"):
        raise LatentsError(f"{path} is no latent file; `stkit invert PHOTO` writes PHOTO.latents.safetensors")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != _FORMAT:
                raise LatentsError(f"{path} is a safetensors file, but not latents written by stkit")
            codes = file.get_tensor("codes")
            names = set(file.keys())
            offsets = file.get_tensor("style_offsets") if "style_offsets" in names else None
            base = file.get_tensor("base") if "base" in names else None
            rows = [_provenance(row) for row in json.loads(header["provenance"])]
            generator, space, tuned = header["generator"], LatentSpace(header["space"]), header.get("tuning")
            tuning = load_tuning(path.parent, tuned, generator) if tuned else None
            latents = Latents(codes, generator, space, tuple(rows), offsets, base, tuning)
    except LatentsError:
        raise
    except Exception as error:  # a damaged header is any JSON at all, and fails in as many ways
        raise LatentsError(f"cannot read latents from {path}: {error}; invert the photo again") from error
    for tensor in (codes, offsets, base):
        if tensor is not None and (tensor.dtype != torch.float32 or not torch.isfinite(tensor).all()):
            raise LatentsError(f"{path} holds codes that are not finite float32; invert the photo again")
    return latents


def _provenance(row: dict) -> Provenance:
    if not isinstance(row.get("photo"), str | None):
        raise ValueError("the name of a photo is not text")
    transform = row.pop("transform")
    matrix = None if transform is None else tuple(tuple(float(x) for x in line) for line in transform)
    if matrix is not None and ([len(line) for line in matrix] != [3, 3] or not math.isfinite(sum(map(sum, matrix)))):
        raise ValueError("a transform is not 2x3 finite numbers")
    return Provenance(**{**row, "edits": tuple(row["edits"])}, transform=matrix)


__all__ = [
    "Latents",
    "Provenance",
    "average",
    "encode_latents",
    "interpolate",
    "join_latents",
    "load_latents",
    "mix",
    "save_latents",
    "save_latents_tuning",
]
