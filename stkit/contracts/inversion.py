"""The inverter contract: from aligned crops to latent codes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic

from stkit.options import Options, OptionsT

if TYPE_CHECKING:
    import torch

    from stkit.latents.latents import Latents
    from stkit.weights import Weights


def ignore_progress(done: int, total: int) -> None:
    """What is called with (done, total) when nobody wants to know."""


def ignore_latents(so_far: Callable[[], Latents]) -> None:
    """What is called with the latents so far when nobody wants to see them."""


@dataclass(frozen=True)
class InversionContext:
    """What an inverter may use: the weights (generator and what lies beside it) and where to run.

    `start` holds codes of the same crops, one row each, for an inverter that `refines` to go on from.
    An inverter that takes seconds calls `on_progress` with (steps done, steps in all), and one that `refines` calls
    `on_latents` after each step with a function that gives the latents so far, for who wants to look at them meanwhile.
    """

    weights: Weights
    device: torch.device
    seed: int = 0
    start: Latents | None = None
    on_progress: Callable[[int, int], None] = ignore_progress
    on_latents: Callable[[Callable[[], Latents]], None] = ignore_latents


class Inverter(ABC, Generic[OptionsT]):
    """An inversion method. Construction loads nothing."""

    name: ClassVar[str]
    description: ClassVar[str]
    refines: ClassVar[bool] = False
    """Whether it goes on from `context.start`, for `--refine NAME`; then its Options have `steps`."""
    tunes: ClassVar[bool] = False
    """Whether its latents carry a generator tuned for their batch (`Latents.tuning`); then photos go one by one."""
    Options: type[Options] = Options

    @abstractmethod
    def invert(self, crops: torch.Tensor, options: OptionsT, context: InversionContext) -> Latents:
        """Latents of `crops`, [B, 3, H, W] in [-1, 1] at the generator's resolution, on the context's device.

        Raises WeightsError when the weights have nothing this inverter can run.
        """

    def quality_steps(self, quality: str, resolution: int) -> int:
        """With how many steps it refines codes of a generator of `resolution` px for `--quality balanced` or `best`.

        0: it takes no part in that quality. What tunes comes after the others.
        """
        return 0


__all__ = ["InversionContext", "Inverter", "ignore_latents", "ignore_progress"]
