"""The inverter contract: from aligned crops to latent codes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic

from stkit.options import Options, OptionsT

if TYPE_CHECKING:
    import torch

    from stkit.latents import Latents
    from stkit.weights import Weights


@dataclass(frozen=True)
class InversionContext:
    """What an inverter may use: the weights (generator and what lies beside it) and where to run."""

    weights: Weights
    device: torch.device
    seed: int = 0


class Inverter(ABC, Generic[OptionsT]):
    """An inversion method. Construction loads nothing."""

    name: ClassVar[str]
    description: ClassVar[str]
    Options: type[Options] = Options

    @abstractmethod
    def invert(self, crops: torch.Tensor, options: OptionsT, context: InversionContext) -> Latents:
        """Latents of `crops`, [B, 3, H, W] in [-1, 1] at the generator's resolution, on the context's device.

        Raises WeightsError when the weights have nothing this inverter can run.
        """


__all__ = ["InversionContext", "Inverter"]
