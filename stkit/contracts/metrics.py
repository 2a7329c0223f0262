"""The metric contract: numbers about images, with or without references."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic

from stkit.options import Options, OptionsT

if TYPE_CHECKING:
    import torch


class Metric(ABC, Generic[OptionsT]):
    """A metric. Construction loads nothing."""

    name: ClassVar[str]
    description: ClassVar[str]
    higher_is_better: ClassVar[bool]
    paired: ClassVar[bool] = False
    """Whether it compares row by row: then `stkit evaluate` gives each photo its value, and the mean an interval."""
    domains: ClassVar[tuple[str, ...]] = ()
    """What the images have to show, see `stkit domains`; anything where it is empty."""
    Options: type[Options] = Options

    @abstractmethod
    def compute(self, images: torch.Tensor, references: torch.Tensor, options: OptionsT) -> dict[str, float]:
        """Named numbers for `images` against `references`, [N, 3, H, W] each in [-1, 1].

        Paired metrics compare row by row and report the mean over rows; distribution metrics
        compare the two sets. The metric's own name is always one of the keys.
        """


__all__ = ["Metric"]
