"""Adam with the schedule of Karras' projector, progress, and an end when nothing is gained any more."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stkit.plugin import StkitError, keep_freed_memory

_RAMP_UP, _RAMP_DOWN = 0.05, 0.25
"""Shares of the steps in which the learning rate rises and falls."""


@dataclass
class Patience:
    """Says when the loss has not fallen by 1% within `steps` steps; 0 steps is never."""

    steps: int
    best: float = math.inf
    since: int = 0

    def over(self, loss: float) -> bool:
        """Whether to stop, after one more `loss`."""
        if loss < 0.99 * self.best:
            self.best, self.since = loss, 0
        else:
            self.since += 1
        return 0 < self.steps <= self.since


def ramps(step: int, steps: int) -> float:
    """Learning rate factor of `step` (from 0): linear up over 5% of the steps, a cosine down over the last 25%.

    Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, appendix D.
    """
    done = (step + 1) / (steps + 1)
    down = min(1.0, (1 - done) / _RAMP_DOWN)
    return min(1.0, done / _RAMP_UP) * (0.5 - 0.5 * math.cos(math.pi * down))


@keep_freed_memory()
def descend(
    parameters: Sequence[Tensor],
    learning_rate: float,
    steps: int,
    patience: int,
    loss_at: Callable[[int], Tensor],
    on_step: Callable[[int], None],
) -> None:
    """At most `steps` steps of Adam on `parameters`, down `loss_at(step)`; `on_step` hears how many are done.

    Raises StkitError when the loss is not finite.
    """
    optimizer = torch.optim.Adam(parameters, learning_rate, betas=(0.9, 0.99))
    waiting = Patience(patience)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate * ramps(step, steps)
        with torch.enable_grad():
            loss = loss_at(step)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise StkitError(
                f"the optimisation diverged at step {step}; lower the learning rate (-o learning_rate=...)"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        on_step(step + 1)
        if waiting.over(value):
            break


__all__ = ["Patience", "descend", "ramps"]
