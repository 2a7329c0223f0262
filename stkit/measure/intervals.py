"""Confidence intervals of means over photos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean of `count` values with the bounds of its 95% bootstrap interval; both are the mean where that is none."""

    mean: float
    low: float
    high: float
    count: int


def mean_interval(values: np.ndarray, seed: int = 0) -> Interval:
    """The mean of `values` [N] with its interval by resampling (percentile bootstrap); NaNs are left out.

    The resamples are the same for the same N and seed, so that differences of paired values fit their means.
    """
    from scipy.stats import bootstrap

    known = values[np.isfinite(values)]
    if not len(known):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    mean = float(known.mean())
    if len(known) < 2 or np.ptp(known) == 0:
        return Interval(mean, mean, mean, len(known))
    found = bootstrap(
        (known,), np.mean, n_resamples=_RESAMPLES, method="percentile", random_state=np.random.default_rng(seed)
    )
    low, high = found.confidence_interval
    return Interval(mean, float(low), float(high), len(known))


__all__ = ["Interval", "mean_interval"]
