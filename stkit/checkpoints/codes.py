"""Latent codes of other projects' projectors and encoders, told by names and shapes.

- NVIDIA's `projected_w.npz`: `{w: (1, num_ws, 512)}`;
- e4e's and PTI's `.pt`, and `.npy` of many: a bare array (B, num_ws, 512), (num_ws, 512), (B, 512) or (512,);
- rosinality's projector: a dictionary of photos, each with its `latent`, beside which older ones have `noises`;
- ReStyle's `latents.npy`: a dictionary of photos, each with the codes of every iteration, of which the last counts;
- safetensors of any of these;
- `stkit latents export --npz`: `{codes, space, generator, provenance}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stkit.checkpoints.arrays import outline, read_arrays
from stkit.errors import LatentsError, WeightsError
from stkit.files import parse_json
from stkit.latents.latents import Latents, Provenance, provenance_of
from stkit.options import LatentSpace
from stkit.weights import Weights

_NAMES = ("codes", "w_plus", "wplus", "w+", "latents", "latent", "latent_code", "latent_codes", "w", "ws", "dlatents",
          "dlatent", "projected_w", "result_latent")  # fmt: skip


def read_codes(path: Path, weights: Weights) -> Latents:
    """The codes of a file for the generator of `weights`.

    An array of as many rows as the generator has layers is one code. Raises LatentsError with the names and shapes that
    are there for what holds no codes, and for codes of a generator of another shape.
    """
    try:
        data = read_arrays(path)
    except WeightsError as error:
        raise LatentsError(str(error)) from error
    if isinstance(data, dict) and {"codes", "space", "generator"} <= data.keys():
        return _own(data, path)
    found = _find(data)
    if not found:
        raise LatentsError(
            f"{path} holds no latent codes that stkit knows, but {outline(data)}; codes are arrays of floats "
            f"like (1, {weights.num_ws}, {weights.w_dim})"
        )
    rows: list[Tensor] = []
    provenance: list[Provenance] = []
    for name, value in found.items():
        codes = _shaped(value, weights, path)
        rows.append(codes)
        provenance += [Provenance(photo=name or None, weights=weights.name)] * len(codes)
    if len({codes.ndim for codes in rows}) > 1:
        raise LatentsError(f"{path} holds codes of w and of w_plus; save them in files of their own")
    codes = torch.cat(rows)
    if not codes.numel():
        raise LatentsError(f"{path} holds no codes but an empty array; project the photo again")
    if not torch.isfinite(codes).all():
        raise LatentsError(f"{path} holds codes that are not finite numbers; project the photo again")
    space = LatentSpace.W if codes.ndim == 2 else LatentSpace.W_PLUS
    return Latents(codes, weights.space, space, tuple(provenance))


def _find(data: Any) -> dict[str, Tensor]:
    """The arrays that may be codes, by the photo that they are of, as far as that is told."""
    if isinstance(data, Tensor):
        return {"": data} if data.is_floating_point() and data.ndim else {}
    if isinstance(data, list):
        parts = [value for value in data if isinstance(value, Tensor) and value.is_floating_point()]
        same = len(parts) == len(data) and len({value.shape for value in parts}) == 1
        return {"": torch.stack(parts)} if parts and same and parts[0].ndim in (1, 2) else {}
    if not isinstance(data, dict):
        return {}
    named = next((data[name] for name in _NAMES if isinstance(data.get(name), (Tensor, list))), None)
    if named is not None:
        return _find(named)
    photos = {name: part for name, part in data.items() if isinstance(part, dict) and part.keys() & set(_NAMES)}
    data = photos or data
    if len(data) == 1:
        (only,) = data.items()
        return {_photo(only[0]): value for value in _find(_last(only[1])).values()}
    found = {_photo(name): value for name, part in data.items() for value in _find(_last(part)).values()}
    return found if len(found) == len(data) else {}


def _photo(name: object) -> str:
    return name if isinstance(name, str) and "." in name else ""


def _last(value: Any) -> Any:
    """The last of the iterations that ReStyle lists for a photo."""
    return value[-1] if isinstance(value, list) and value else value


def _shaped(value: Tensor, weights: Weights, path: Path) -> Tensor:
    """[B, num_ws, w_dim] or [B, w_dim], float32. Raises LatentsError."""
    num_ws, w_dim = weights.num_ws, weights.w_dim
    shape = tuple(value.shape)
    while value.ndim > 3 and value.shape[0] == 1:
        value = value[0]
    if value.ndim == 1 or (value.ndim == 2 and len(value) == num_ws and value.shape[-1] == w_dim):
        value = value[None]
    if value.ndim == 3 and value.shape[1] == 1:
        value = value[:, 0]
    if value.ndim == 2 and value.shape[-1] == num_ws * w_dim and num_ws > 1:
        value = value.unflatten(1, (num_ws, w_dim))
    fits = value.ndim in (2, 3) and value.shape[-1] == w_dim and (value.ndim == 2 or value.shape[1] == num_ws)
    if not fits:
        theirs = f"{shape[-2]} layers of width {shape[-1]}" if len(shape) > 1 else f"width {shape[-1]}"
        raise LatentsError(
            f"{path} holds codes of shape {shape}, {theirs}, but weights '{weights.name}' have {num_ws} layers of "
            f"width {w_dim}; give the weights that they were made with, --weights NAME"
        )
    return value.float().contiguous()


def _own(data: Mapping[str, Any], path: Path) -> Latents:
    """What `stkit latents export --npz` wrote."""
    try:
        rows = data.get("provenance")
        provenance = tuple(provenance_of(parse_json(row)) for row in (rows if isinstance(rows, list) else []))
        if not data["codes"].is_floating_point():
            raise ValueError("codes that are no real numbers")
        return Latents(data["codes"].float(), str(data["generator"]), LatentSpace(data["space"]), provenance)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LatentsError(f"{path} is damaged; export the latents again with stkit latents export") from error


__all__ = ["read_codes"]
