"""Faces: the domain `faces` and the metric `identity`."""

from __future__ import annotations

from stkit import hookimpl
from stkit.domains import Domain
from stkit.metrics import Metric
from stkit_faces.domain import FacesDomain
from stkit_faces.metric import IdentityMetric


@hookimpl
def register_domains() -> list[Domain]:
    return [FacesDomain()]


@hookimpl
def register_metrics() -> list[Metric]:
    return [IdentityMetric()]


__all__ = ["FacesDomain", "IdentityMetric", "register_domains", "register_metrics"]
