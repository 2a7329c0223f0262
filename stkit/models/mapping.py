"""The mapping network of the StyleGAN family (Karras et al. 2019)."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from stkit.models import ops


class MappingNetwork(nn.Module):
    """z [..., z_dim] to w [..., w_dim]: pixel norm, then fully connected layers with learning rate 0.01."""

    def __init__(self, z_dim: int, w_dim: int, num_layers: int) -> None:
        super().__init__()
        sizes = [z_dim] + [w_dim] * num_layers
        self.layers = nn.ModuleList(
            ops.EqualLinear(a, b, lr_mul=0.01, activation=True) for a, b in itertools.pairwise(sizes)
        )

    def forward(self, z: Tensor) -> Tensor:
        """[..., z_dim] to [..., w_dim]."""
        x = ops.pixel_norm(z)
        for layer in self.layers:
            x = layer(x)
        return x


__all__ = ["MappingNetwork"]
