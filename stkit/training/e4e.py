"""What e4e adds to the training of an encoder (Tov et al., SIGGRAPH 2021): codes that stay near W.

Layers get an offset of their own stage by stage; offsets are kept small; and a discriminator tells
the encoder's codes from those of the mapping network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stkit.models.generators import Generator


@dataclass(frozen=True)
class E4EConfig:
    """Weights and schedule, the paper's; 0 leaves a part out.

    `first_share` and `last_share` are the shares of the training after which the first and the last
    offset are let in. R1 is taken every `r1_interval` steps.
    """

    delta: float = 2e-4
    discriminator: float = 0.1
    d_learning_rate: float = 2e-5
    r1: float = 10.0
    r1_interval: int = 16
    first_share: float = 0.1
    last_share: float = 0.27

    def stage(self, step: int, steps: int, num_ws: int) -> int:
        """The last layer with an offset of its own in `step` (from 0) of `steps`: 0 at first, num_ws - 1 at last."""
        share = (step / steps - self.first_share) / (self.last_share - self.first_share)
        return max(0, min(num_ws - 1, int(share * (num_ws - 2)) + 1 if share >= 0 else 0))


class LatentDiscriminator(nn.Module):
    """Scores of codes [..., w_dim]: high for what the mapping network could have given; [...]."""

    def __init__(self, w_dim: int, layers: int = 4) -> None:
        super().__init__()
        hidden: list[nn.Module] = []
        for _ in range(layers - 1):
            hidden += [nn.Linear(w_dim, w_dim), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*hidden, nn.Linear(w_dim, 1))

    def forward(self, codes: Tensor) -> Tensor:
        """[..., w_dim] to [...]."""
        return self.layers(codes).squeeze(-1)


@dataclass
class E4ELosses:
    """The discriminator with its optimiser, and the losses that it and the offsets add."""

    config: E4EConfig
    generator: Generator
    device: torch.device
    discriminator: LatentDiscriminator = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.discriminator = LatentDiscriminator(self.generator.config.w_dim).to(self.device)
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), self.config.d_learning_rate)

    def losses(self, codes: Tensor, stage: int | Tensor) -> dict[str, Tensor]:
        """Of the encoder, unweighted, for `codes` [B, num_ws, w_dim] whose layers up to `stage` have offsets."""
        moved = torch.arange(codes.shape[1], device=codes.device) <= stage
        scores = F.softplus(-self.discriminator(codes)).mean(0)
        offsets = (codes[:, 1:] - codes[:, :1]).norm(dim=2).mean(0)
        return {"adversarial": (scores * moved).sum() / moved.sum(), "delta": (offsets * moved[1:]).sum()}

    def weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Their sum."""
        weights = {"adversarial": self.config.discriminator, "delta": self.config.delta}
        return torch.stack([weights[name] * value for name, value in losses.items()]).sum()

    def train_discriminator(self, codes: Tensor, stage: int, step: int, random: torch.Generator) -> Tensor:
        """One step against the codes [B, num_ws, w_dim] of layer `stage`; the loss, a scalar."""
        fakes = codes[:, stage].detach()
        z = torch.randn(len(fakes), self.generator.config.z_dim, generator=random).to(self.device)
        with torch.no_grad():
            reals = self.generator.mapping(z)
        reals.requires_grad_()
        scores = self.discriminator(reals)
        loss = F.softplus(self.discriminator(fakes)).mean() + F.softplus(-scores).mean()
        total = loss
        if step % self.config.r1_interval == 0:
            (gradient,) = torch.autograd.grad(scores.sum(), reals, create_graph=True)
            penalty = gradient.square().sum(1).mean()
            total = loss + self.config.r1 / 2 * self.config.r1_interval * penalty
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"latent_discriminator": self.discriminator, "latent_optimizer": self.optimizer}


__all__ = ["E4EConfig", "E4ELosses", "LatentDiscriminator"]
