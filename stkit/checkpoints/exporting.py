"""Weights as files for other programs."""

from __future__ import annotations

import dataclasses
import functools
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from stkit.checkpoints.nvidia import export_nvidia_generator
from stkit.checkpoints.rosinality import export_rosinality_generator
from stkit.errors import UnknownNameError, UsageError
from stkit.files import atomic_path
from stkit.moved import renamed
from stkit.tensors import load_tensors
from stkit.weights import Weights


@dataclasses.dataclass(frozen=True)
class Format:
    """An export format: the file's ending and who reads it."""

    ending: str
    description: str
    write: Callable[[Weights, str, Path], None]


def _rosinality(weights: Weights, kind: str, path: Path) -> None:
    _only_stylegan2(weights, kind, "rosinality")
    _save(export_rosinality_generator(load_tensors(weights.path(kind))[1]), path)


def _nvidia_state(weights: Weights, kind: str, path: Path) -> None:
    _only_stylegan2(weights, kind, "nvidia-state")
    _save(export_nvidia_generator(load_tensors(weights.path(kind))[1]), path)


def _save(content: Any, path: Path) -> None:
    """As torch saves it, through memory: on a full disk torch's own errors are no OSError."""
    data = io.BytesIO()
    torch.save(content, data)
    path.write_bytes(data.getvalue())


def _safetensors(weights: Weights, kind: str, path: Path) -> None:
    load_tensors(weights.path(kind))  # verifies the fingerprint
    shutil.copyfile(weights.path(kind), path)


def _onnx(weights: Weights, kind: str, path: Path) -> None:
    from stkit.checkpoints.onnx import export_onnx

    export_onnx(weights, kind, path)


def _only_stylegan2(weights: Weights, kind: str, format_name: str) -> None:
    if kind != "generator" or weights.header.architecture != "stylegan2":
        what = kind if kind != "generator" else f"{weights.header.architecture} generator"
        raise UsageError(f"format {format_name} is for StyleGAN2 generators; export the {what} as safetensors or onnx")


FORMATS = {
    "rosinality": Format(".pt", "{g_ema, latent_avg}, for rosinality/stylegan2-pytorch", _rosinality),
    "nvidia-state": Format(".nvidia.pt", "a state for load_state_dict of NVIDIA's Generator", _nvidia_state),
    "safetensors": Format(".safetensors", "stkit's own file", _safetensors),
    "onnx": Format(".onnx", "a graph for onnxruntime and others", _onnx),
}  # fmt: skip


def export_weights(weights: Weights, format_name: str, out: Path, kind: str = "generator") -> Path:
    """Write the part `kind` of weights to the folder `out` in one of FORMATS; the path written.

    Raises UsageError when the file is there already or the format is not for that part, WeightsError, OutputError,
    MissingPackageError.
    """
    if format_name not in FORMATS:
        raise UnknownNameError("format", format_name, FORMATS)
    if kind not in weights.kinds():
        raise UnknownNameError(f"part of weights '{weights.name}'", kind, weights.kinds())
    chosen = FORMATS[format_name]
    name = weights.name if kind == "generator" else f"{weights.name}.{kind}"
    path = out / (name + chosen.ending)
    if path.exists():
        raise UsageError(f"{path} is there already; choose another folder with --out")
    with atomic_path(path) as temporary:
        chosen.write(weights, kind, temporary)
    return path


__getattr__ = functools.partial(renamed, __name__)

__all__ = ["FORMATS", "Format", "export_weights"]
