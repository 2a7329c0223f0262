"""An example plugin of stkit: the method `blend`, the domain `objects` and the metric `delta-e`."""

from __future__ import annotations

from collections.abc import Sequence

from stkit.plugin import Domain, EditingMethod, Metric, hookimpl


@hookimpl
def register_editing_methods() -> Sequence[EditingMethod]:
    from stkit_example.method import Blend

    return [Blend()]


@hookimpl
def register_domains() -> Sequence[Domain]:
    from stkit_example.domain import Objects

    return [Objects()]


@hookimpl
def register_metrics() -> Sequence[Metric]:
    from stkit_example.metric import DeltaE

    return [DeltaE()]
