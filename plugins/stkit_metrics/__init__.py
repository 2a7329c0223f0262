"""MSE and LPIPS as plugins."""

from __future__ import annotations

from collections.abc import Sequence

from stkit import hookimpl
from stkit.metrics import Metric


@hookimpl
def register_metrics() -> Sequence[Metric]:
    """The metrics of this package."""
    from stkit_metrics.paired import LPIPSMetric, MSEMetric

    return [MSEMetric(), LPIPSMetric()]
