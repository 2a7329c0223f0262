"""Faces: the domain `faces`, the metric `identity` and the scorer `face-landmarks`."""

from __future__ import annotations

from stkit.plugin import Domain, Metric, Scorer, hookimpl
from stkit_faces.domain import FacesDomain
from stkit_faces.metric import IdentityMetric
from stkit_faces.scorer import AgeScorer, LandmarkScorer


@hookimpl
def register_domains() -> list[Domain]:
    return [FacesDomain()]


@hookimpl
def register_metrics() -> list[Metric]:
    return [IdentityMetric()]


@hookimpl
def register_scorers() -> list[Scorer]:
    return [LandmarkScorer(), AgeScorer()]


__all__ = [
    "AgeScorer",
    "FacesDomain",
    "IdentityMetric",
    "LandmarkScorer",
    "register_domains",
    "register_metrics",
    "register_scorers",
]
