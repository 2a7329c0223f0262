"""Directions of other projects, told apart by their contents; nothing in a file is executed.

- InterFaceGAN and STIT `.npy`: (1, 512) or (18, 512);
- e4e `.pt`: a bare tensor (1, 512) or (1, 18, 512);
- e4e's GANSpace `.pt`: `{mean (1, 512), comp (K, 1, 512), std (K,)}`;
- GANSpace `.npz`: `lat_comp (K, 1, 512)`, `lat_stdev (K,)`, ... (Härkönen et al. 2020);
- rosinality's SeFa `factor.pt`: `{ckpt, eigvec (512, K)}`, directions in the columns.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stkit.checkpoints.reading import read_checkpoint, refuse_hostile
from stkit.checkpoints.stored import StoredTensor
from stkit.checkpoints.unpickle import Record
from stkit.errors import WeightsError

_MAX_COMPONENTS = 2**28  # bytes


@dataclass(frozen=True, eq=False)
class ForeignDirections:
    """The vectors of a file, float64 [K, w_dim] or [K, num_ws, w_dim], each of norm 1, and what kind of file it is."""

    vectors: Tensor
    format: str

    def __len__(self) -> int:
        return len(self.vectors)


def read_directions(path: Path) -> ForeignDirections:
    """Read any of the layouts above. Raises WeightsError when it is none of them or holds no usable vectors."""
    path = Path(path)
    try:
        data = _load(path)
    except (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise WeightsError(f"cannot read directions from {path}: {reason}") from error
    vectors, kind = _recognise(data, path)
    vectors = vectors.double()
    norms = vectors.flatten(1).norm(dim=1)
    if not torch.isfinite(norms).all() or not (norms > 1e-12).all():
        raise WeightsError(f"{path} holds a direction that is zero or not finite; export it again")
    return ForeignDirections(vectors / norms.reshape(-1, *[1] * (vectors.ndim - 1)), kind)


def write_direction(vector: Tensor, path: Path) -> None:
    """Write `vector` [w_dim] or [num_ws, w_dim] as InterFaceGAN's .npy or e4e's .pt, told by the suffix.

    Raises OutputError.
    """
    from stkit.files import atomic_path

    rows = vector.detach().cpu().reshape(-1, vector.shape[-1])
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if path.suffix == ".npy":
            np.save(file, rows.double().numpy(), allow_pickle=False)
        else:
            torch.save((rows if vector.ndim == 1 else rows[None]).float().clone(), file)


def _load(path: Path) -> Any:
    """What a file holds, told by its first bytes; numpy's own arrays stay in their file."""
    with path.open("rb") as file:
        start = file.read(6)
    if start == b"\x93NUMPY":
        return np.load(path, mmap_mode="r", allow_pickle=False)
    if start.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        if all(name.endswith(".npy") for name in sizes):
            if sizes.get("lat_comp.npy", 0) > _MAX_COMPONENTS:
                raise ValueError(f"its components take more than {_MAX_COMPONENTS:,} bytes")
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files if name == "lat_comp"}
    checkpoint = read_checkpoint(path)
    refuse_hostile(checkpoint)
    content = checkpoint.content
    if isinstance(content, dict):
        return {key: value.load() if isinstance(value, StoredTensor) else value for key, value in content.items()}
    return content.load() if isinstance(content, StoredTensor) else content


def _recognise(data: Any, path: Path) -> tuple[Tensor, str]:
    if isinstance(data, np.ndarray):
        if data.dtype.kind not in "fiu" or data.ndim not in (1, 2, 3):
            raise WeightsError(f"{path} holds {data.dtype} of shape {data.shape}, not a direction like (1, 512)")
        return _single(torch.from_numpy(data.astype(np.float64)), path), "npy"
    if isinstance(data, Tensor):
        return _single(data, path), "e4e tensor"
    if isinstance(data, dict):
        if "eigvec" in data:
            columns = data["eigvec"]
            square = isinstance(columns, Tensor) and columns.ndim == 2
            return _components(columns.T if square else None, path), "SeFa factors"
        for key, kind in (("comp", "e4e GANSpace"), ("lat_comp", "GANSpace")):
            if key in data:
                return _components(torch.as_tensor(data[key]), path), kind
        raise WeightsError(
            f"{path} holds {', '.join(map(str, list(data)[:6])) or 'nothing'}; none of it is a direction"
        )
    raise WeightsError(
        f"{path} holds one {data.name if isinstance(data, Record) else type(data).__name__}, not a direction"
    )


def _single(value: Tensor, path: Path) -> Tensor:
    """(D,), (1, D) to [1, D]; (L, D), (1, L, D) to [1, L, D]."""
    rows = value.reshape(-1, value.shape[-1]) if value.ndim < 3 or value.shape[0] == 1 else None
    if rows is None or not value.is_floating_point() or not rows.numel():
        raise WeightsError(f"{path} has the shape {tuple(value.shape)}, not that of a direction like (1, 512)")
    return rows if len(rows) == 1 else rows[None]


def _components(value: Any, path: Path) -> Tensor:
    """(K, D) or (K, 1, D) to [K, D]; (K, L, D) stays."""
    if not isinstance(value, Tensor) or value.ndim not in (2, 3) or not value.is_floating_point() or not value.numel():
        raise WeightsError(f"{path} has components of an unknown shape; expected (K, 512) or (K, 1, 512)")
    return value[:, 0] if value.ndim == 3 and value.shape[1] == 1 else value


__all__ = ["ForeignDirections", "read_directions", "write_direction"]
