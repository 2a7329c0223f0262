"""What `-o` can set of optimize and of pti."""

from __future__ import annotations

import pydantic

from stkit.plugin import LatentSpace, Options


def is_large(resolution: int) -> bool:
    """Whether a generator of `resolution` px is one of those that take long and go far."""
    return resolution >= 512


class OptimizeOptions(Options):
    """Options of optimize. Distances between codes are in standard deviations of w."""

    space: LatentSpace = pydantic.Field(default=LatentSpace.W_PLUS, description="w (one code for all layers) or w_plus")
    steps: int = pydantic.Field(default=200, ge=1, description="at most so many")
    learning_rate: float | None = pydantic.Field(
        default=None, gt=0, description="of Adam, between its ramps; by default 0.05, and 0.2 from 512 px on"
    )
    l2: float = pydantic.Field(default=2.0, ge=0, description="weight of the mean squared error")
    lpips: float | None = pydantic.Field(
        default=None, ge=0, description="weight of LPIPS-Alex; by default 0.8, and 2 from 512 px on"
    )
    proximity: float | None = pydantic.Field(
        default=None,
        ge=0,
        description="w_plus: weight of the squared way from the start; by default 0.02, and from 512 px on 0.5 if an "
        "encoder gave it",
    )
    noise: float = pydantic.Field(default=1e5, ge=0, description="w: weight of the noise regularisation")
    patience: int = pydantic.Field(default=40, ge=0, description="stop after so many steps without 1% gain; 0: never")

    def rate(self, resolution: int) -> float:
        """The learning rate for a generator of that resolution."""
        return self.learning_rate or (0.2 if self._is_far(resolution) else 0.05)

    def lpips_weight(self, resolution: int) -> float:
        """The weight of LPIPS for a generator of that resolution."""
        return (2.0 if self._is_far(resolution) else 0.8) if self.lpips is None else self.lpips

    def pull(self, resolution: int, from_mean: bool) -> float:
        """The weight of the way from the start, which may be the mean w, for a generator of that resolution."""
        # Codes near the encoder's are edited as far as those; what they lack of the photo, tuning gives.
        usual = 0.5 if self._is_far(resolution) and not from_mean else 0.02
        return usual if self.proximity is None else self.proximity

    def _is_far(self, resolution: int) -> bool:
        # A face of 1024 px has far to go in W+: with the small generators' values 60 steps leave twice the LPIPS.
        return self.space is LatentSpace.W_PLUS and is_large(resolution)


class PTIOptions(Options):
    """Options of pti."""

    steps: int = pydantic.Field(default=150, ge=1, description="of tuning, at most")
    pivot_steps: int = pydantic.Field(default=300, ge=1, description="of optimisation in W, where no codes are given")
    learning_rate: float = pydantic.Field(default=5e-4, gt=0, description="of the generator's weights")
    l2: float = pydantic.Field(default=1.0, ge=0, description="weight of the mean squared error")
    lpips: float = pydantic.Field(default=1.0, ge=0, description="weight of LPIPS-Alex")
    locality: float = pydantic.Field(default=0.1, ge=0, description="weight of the locality regularisation; 0: none")
    locality_radius: float = pydantic.Field(
        default=0.3, gt=0, description="its distance from the pivot, in standard deviations of w"
    )
    locality_every: int = pydantic.Field(default=4, ge=1, description="steps from one regularisation to the next")
    patience: int = pydantic.Field(default=40, ge=0, description="stop after so many steps without 1% gain; 0: never")


__all__ = ["OptimizeOptions", "PTIOptions", "is_large"]
