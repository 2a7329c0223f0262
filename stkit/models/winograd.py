"""3x3 convolutions with a quarter of the products (Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks").

F(4x4, 3x3): each 4x4 tile of the output comes of a 6x6 tile of the input by 36 products a pair of channels, where
the plain sum takes 144. On a CPU in float32, where convolutions already run at the processor's peak, nothing else
makes them faster. Rounding errors are some five times those of the plain sum.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_WEIGHT = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


class WinogradConv2d(nn.Module):
    """What `conv` does, a 3x3 convolution with stride 1 and zero padding 1, on a channels-last float32 input."""

    weight: Tensor  # [36, in, out]
    bias: Tensor
    input_transform: Tensor
    output_transform: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        out, inner, _, _ = conv.weight.shape
        for name, matrix in (("input_transform", _INPUT), ("output_transform", _OUTPUT), ("weight", _WEIGHT)):
            rows = torch.tensor(matrix, dtype=torch.float32, device=conv.weight.device)
            self.register_buffer(name, torch.kron(rows, rows))
        weight = self.weight @ conv.weight.detach().permute(2, 3, 1, 0).reshape(9, -1)
        self.weight = weight.view(36, inner, out)
        self.register_buffer("bias", weight.new_zeros(out) if conv.bias is None else conv.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] to [B, out, H, W], channels last."""
        batch, _, height, width = x.shape
        x = F.pad(x, (1, 1 + -width % 4, 1, 1 + -height % 4)).permute(0, 2, 3, 1)
        tiles = x.unfold(1, 6, 4).unfold(2, 6, 4)  # [B, H / 4, W / 4, in, 6, 6]
        _, down, across, channels, _, _ = tiles.shape
        tiles = self.input_transform @ tiles.permute(4, 5, 0, 1, 2, 3).reshape(36, -1)
        tiles = self.output_transform @ torch.bmm(tiles.view(36, -1, channels), self.weight).view(36, -1)
        y = tiles.view(4, 4, batch, down, across, -1).permute(2, 3, 0, 4, 1, 5).reshape(batch, 4 * down, 4 * across, -1)
        return y[:, :height, :width].add_(self.bias).permute(0, 3, 1, 2)


__all__ = ["WinogradConv2d"]
