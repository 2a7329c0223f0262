"""Metrics of pairs (MSE, PSNR, LPIPS, MS-SSIM) and of sets (Frechet, kernel and sliced Wasserstein distances)."""

from __future__ import annotations

from collections.abc import Sequence

from stkit.plugin import Metric, hookimpl


@hookimpl
def register_metrics() -> Sequence[Metric]:
    """The metrics of this package."""
    from stkit_metrics.inception import FIDMetric
    from stkit_metrics.paired import LPIPSMetric, LPIPSVGGMetric, MSEMetric, MSSSIMMetric, PSNRMetric
    from stkit_metrics.sets import FrechetMetric, KIDMetric, SWDMetric

    paired = [MSEMetric(), PSNRMetric(), LPIPSMetric(), LPIPSVGGMetric(), MSSSIMMetric()]
    return [*paired, FrechetMetric(), KIDMetric(), SWDMetric(), FIDMetric()]


__all__ = ["register_metrics"]
