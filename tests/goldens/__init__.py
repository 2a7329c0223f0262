"""Golden outputs: numbers that the public reference implementations gave for checkpoints anyone can rebuild.

`NAME.json` lists a checkpoint's tensors as (key, shape, kind) and the recipes of the inputs, `NAME.npz` has the
outputs. No weights are stored: each tensor is drawn from a random generator seeded with the CRC-32 of its own key,
and its kind says how it is scaled. The networks so filled are untrained; their images look like noise.

`stylegan2_generator_64` is of rosinality/stylegan2-pytorch at bef283a1c2, `style_transformer_1024_codes` of
sapphire497/style-transformer at 17ad5f0305; CPU, float32, evaluation mode, fixed noise. `random_face_1024` is of
another kind: OpenVINO's outputs for the trained generator in a wheel, whose hash it has.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_FOLDER = Path(__file__).parent
_FIR = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


@dataclass(frozen=True)
class Golden:
    """One case. `outputs` are what the reference gave for `inputs`; `latent_avg` is the checkpoint's."""

    name: str
    tensors: list[tuple[str, list[int], str]]
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    @property
    def latent_avg(self) -> Tensor:
        return self.inputs["latent_avg"]

    def state(self, *prefixes: str) -> dict[str, Tensor]:
        """The checkpoint's tensors whose keys start with one of `prefixes`, or all of them."""
        wanted = prefixes or ("",)
        return {key: _tensor(key, shape, kind) for key, shape, kind in self.tensors if key.startswith(wanted)}

    def error(self, name: str, got: Tensor) -> float:
        """Largest absolute difference from the reference's output."""
        want = self.outputs[name]
        assert got.shape == want.shape, f"{name} is {tuple(got.shape)}, not {tuple(want.shape)}"
        return float((got - want).abs().max())


def load_golden(name: str) -> Golden:
    """The case `name`."""
    case = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    inputs = {key: _input(recipe) for key, recipe in case["inputs"].items()}
    with np.load(_FOLDER / case["file"]) as stored:
        outputs = {key: torch.from_numpy(stored[key].astype(np.float32)) for key in stored.files}
    return Golden(name, case["tensors"], inputs, outputs)


def fill(key: str, shape: list[int]) -> np.ndarray:
    """Standard normal float32 numbers that follow from the key and the shape alone."""
    random = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    return np.asarray(random.standard_normal(tuple(shape), dtype=np.float32))


def _input(recipe: Mapping[str, Any]) -> Tensor:
    if recipe["op"] == "tanh":
        return torch.from_numpy(np.tanh(fill(recipe["key"], recipe["shape"])))
    return _tensor(recipe["key"], recipe["shape"], recipe["kind"])


def _tensor(key: str, shape: list[int], kind: str) -> Tensor:
    if kind == "zero_int":
        return torch.zeros(shape, dtype=torch.int64)
    if kind in ("fir", "fir_up2"):
        return torch.from_numpy((_FIR * (4 if kind == "fir_up2" else 1)).astype(np.float32))
    a = fill(key, shape).astype(np.float64)
    match kind:
        case "fan_in":
            a /= np.sqrt(np.prod(shape[1:]))
        case "tenth":
            a *= 0.1
        case "one_plus":
            a = 1 + 0.1 * a
        case "variance":
            a = 1 + 0.1 * np.abs(a)
        case "prelu":
            a = 0.25 + 0.05 * a
        case "mul10":
            a *= 10
        case "mul100":
            a *= 100
        case other:
            assert other == "unit", f"unknown kind {other}"
    return torch.from_numpy(a.astype(np.float32))
