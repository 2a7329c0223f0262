"""Directions of other projects, told apart by their contents; nothing in a file is executed.

- InterFaceGAN and STIT `.npy`: (1, 512) or (18, 512), or (1, 18 * 512) where it was fitted to flattened codes;
- the same as the one array of a `.npz`, or under a name in a dictionary that `np.save` or `torch.save` wrote;
- e4e `.pt`: a bare tensor (1, 512) or (1, 18, 512);
- e4e's GANSpace `.pt`: `{mean (1, 512), comp (K, 1, 512), std (K,)}`;
- GANSpace `.npz`: `lat_comp (K, 1, 512)`, `lat_stdev (K,)`, ... (Härkönen et al. 2020);
- rosinality's SeFa `factor.pt`: `{ckpt, eigvec (512, K)}`, directions in the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stkit.checkpoints.arrays import outline, read_arrays, shape_text
from stkit.errors import WeightsError

_NAMES = ("direction", "boundary", "vector", "w", "normal")


@dataclass(frozen=True, eq=False)
class ForeignDirections:
    """The vectors of a file, float64 [K, w_dim] or [K, num_ws, w_dim], each of norm 1, and what kind of file it is."""

    vectors: Tensor
    format: str

    def __len__(self) -> int:
        return len(self.vectors)


def read_directions(path: Path, name: str | None = None) -> ForeignDirections:
    """Read any of the layouts above; of several named vectors the one called `name`.

    Raises WeightsError when it is none of them or holds no usable vectors.
    """
    path = Path(path)
    data = read_arrays(path)
    vectors, kind = _recognise(data, path, name)
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


def _recognise(data: Any, path: Path, name: str | None) -> tuple[Tensor, str]:
    if isinstance(data, list) and len(data) == 1:
        (data,) = data
    if isinstance(data, Tensor):
        return _single(data, path), "array"
    if isinstance(data, dict):
        if "eigvec" in data:
            columns = data["eigvec"]
            square = isinstance(columns, Tensor) and columns.ndim == 2
            return _components(columns.T if square else None, path), "SeFa factors"
        for key, kind in (("comp", "e4e GANSpace"), ("lat_comp", "GANSpace")):
            if key in data:
                return _components(data[key], path), kind
        if name is not None and isinstance(data.get(name), Tensor):
            return _single(data[name], path), "array"
        named = next((data[key] for key in _NAMES if isinstance(data.get(key), Tensor)), None)
        arrays = [value for value in data.values() if isinstance(value, Tensor) and value.ndim and value.numel() > 1]
        if named is not None or len(arrays) == 1:
            return _single(arrays[0] if named is None else named, path), "array"
        if arrays:
            first = next(key for key, value in data.items() if value is arrays[0])
            raise WeightsError(
                f"{path} holds several arrays, {outline(data)}; take one by its name, like --name {first}"
            )
    raise WeightsError(f"{path} holds {outline(data)}; none of it is a direction like (1, 512)")


def _single(value: Tensor, path: Path) -> Tensor:
    """(D,), (1, D), (D, 1) to [1, D]; (L, D), (1, L, D) to [1, L, D]."""
    shape = shape_text(value)
    while value.ndim > 1 and value.shape[0] == 1:
        value = value[0]
    if value.ndim == 2 and value.shape[1] == 1:
        value = value[:, 0]
    if value.ndim not in (1, 2) or not value.numel() or value.dtype == torch.bool or value.is_complex():
        raise WeightsError(f"{path} has the shape {shape}, not that of a direction like (1, 512)")
    return value.reshape(1, *value.shape).double()


def _components(value: Any, path: Path) -> Tensor:
    """(K, D) or (K, 1, D) to [K, D]; (K, L, D) stays."""
    if not isinstance(value, Tensor) or value.ndim not in (2, 3) or not value.is_floating_point() or not value.numel():
        raise WeightsError(f"{path} has components of an unknown shape; expected (K, 512) or (K, 1, 512)")
    return value[:, 0] if value.ndim == 3 and value.shape[1] == 1 else value


__all__ = ["ForeignDirections", "read_directions", "write_direction"]
