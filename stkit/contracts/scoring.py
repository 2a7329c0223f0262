"""The scoring contract: how much of an attribute each image shows, to label a generator's own samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic

from stkit.options import Options, OptionsT

if TYPE_CHECKING:
    import numpy as np
    import torch


class Scorer(ABC, Generic[OptionsT]):
    """A scorer. Construction loads nothing."""

    name: ClassVar[str]
    description: ClassVar[str]
    domains: ClassVar[tuple[str, ...]] = ()
    """What the images have to show, see `stkit domains`; anything where it is empty."""
    Options: type[Options] = Options

    @abstractmethod
    def score(self, images: torch.Tensor, options: OptionsT) -> dict[str, np.ndarray]:
        """Scores of `images` [B, 3, R, R] in [-1, 1]: attribute -> float64 [B], NaN where an image has none.

        Each image is scored by itself, and the attributes are the same for all batches.
        """


__all__ = ["Scorer"]
