"""Latent codes and their file format: safetensors holding the codes and where they came from."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from stkit.errors import LatentsError
from stkit.files import atomic_path
from stkit.options import LatentSpace

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
    Wu et al. 2021), in the order of `SynthesisNetwork.styles`; None is no offset.
    """

    codes: torch.Tensor
    generator: str
    space: LatentSpace = LatentSpace.W_PLUS
    provenance: tuple[Provenance, ...] = ()
    style_offsets: torch.Tensor | None = None

    def __post_init__(self) -> None:
        dims = {LatentSpace.W: 2, LatentSpace.W_PLUS: 3}[self.space]
        if self.codes.ndim != dims:
            raise LatentsError(f"{self.space} codes need {dims} dimensions, got {tuple(self.codes.shape)}")
        if self.provenance and len(self.provenance) != len(self.codes):
            raise LatentsError(f"{len(self.codes)} codes but {len(self.provenance)} provenance entries")
        if self.style_offsets is not None and self.style_offsets.shape[:-1] != self.codes.shape[:1]:
            raise LatentsError(f"{len(self.codes)} codes but style offsets of shape {tuple(self.style_offsets.shape)}")

    def __len__(self) -> int:
        return len(self.codes)

    def replace(self, codes: torch.Tensor, edit: str | None = None) -> Latents:
        """The same rows with other codes; `edit` is noted in each row's provenance."""
        provenance = self.provenance
        if edit is not None:
            rows = provenance or (Provenance(),) * len(codes)
            provenance = tuple(dataclasses.replace(row, edits=(*row.edits, edit)) for row in rows)
        return dataclasses.replace(self, codes=codes, provenance=provenance)

    def require_generator(self, fingerprint: str, name: str) -> None:
        """Raise LatentsError unless these codes belong to the generator `name`."""
        if self.generator != fingerprint:
            raise LatentsError(
                f"the latents belong to generator {self.generator[:12]}, but weights '{name}' have generator "
                f"{fingerprint[:12]}; choose the weights they were made with, or invert the photo again"
            )


def save_latents(latents: Latents, path: Path) -> None:
    """Write `latents` to a safetensors file, complete or not at all. Raises OutputError."""
    header = {
        "format": _FORMAT,
        "space": str(latents.space),
        "generator": latents.generator,
        "provenance": json.dumps([dataclasses.asdict(row) for row in latents.provenance]),
    }
    tensors = {"codes": latents.codes}
    if latents.style_offsets is not None:
        tensors["style_offsets"] = latents.style_offsets
    stored = {name: value.detach().to("cpu", torch.float32).contiguous() for name, value in tensors.items()}
    with atomic_path(path) as temporary:
        # Not save_file: its errors on a full disk are no OSError.
        temporary.write_bytes(safetensors.torch.save(stored, metadata=header))


def load_latents(path: Path) -> Latents:
    """Read a file written by `save_latents`. Raises LatentsError when it is anything else."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != _FORMAT:
                raise LatentsError(f"{path} is a safetensors file, but not latents written by stkit")
            codes = file.get_tensor("codes")
            offsets = file.get_tensor("style_offsets") if "style_offsets" in file.keys() else None  # noqa: SIM118
            rows = [_provenance(row) for row in json.loads(header["provenance"])]
            latents = Latents(codes, header["generator"], LatentSpace(header["space"]), tuple(rows), offsets)
    except LatentsError:
        raise
    except Exception as error:  # a damaged header is any JSON at all, and fails in as many ways
        raise LatentsError(f"cannot read latents from {path}: {error}; invert the photo again") from error
    for tensor in (codes, offsets):
        if tensor is not None and (tensor.dtype != torch.float32 or not torch.isfinite(tensor).all()):
            raise LatentsError(f"{path} holds codes that are not finite float32; invert the photo again")
    return latents


def _provenance(row: dict) -> Provenance:
    transform = row.pop("transform")
    matrix = None if transform is None else tuple(tuple(float(x) for x in line) for line in transform)
    if matrix is not None and ([len(line) for line in matrix] != [3, 3] or not math.isfinite(sum(map(sum, matrix)))):
        raise ValueError("a transform is not 2x3 finite numbers")
    return Provenance(**{**row, "edits": tuple(row["edits"])}, transform=matrix)


__all__ = ["Latents", "Provenance", "load_latents", "save_latents"]
