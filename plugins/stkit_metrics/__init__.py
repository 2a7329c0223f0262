"""MSE and LPIPS of pairs, Frechet and sliced Wasserstein distances of sets."""

from __future__ import annotations

from collections.abc import Sequence

from stkit.plugin import Metric, hookimpl


@hookimpl
def register_metrics() -> Sequence[Metric]:
    """The metrics of this package."""
    from stkit_metrics.paired import LPIPSMetric, MSEMetric
    from stkit_metrics.sets import FrechetMetric, SWDMetric

    return [MSEMetric(), LPIPSMetric(), FrechetMetric(), SWDMetric()]


__all__ = ["register_metrics"]
