"""Is a reconstruction as good as usual? The usual errors are measured once and kept beside the weights' inverter."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stkit.errors import WeightsError
from stkit.weights import load_header, load_tensors, save_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from stkit.weights import Weights

logger = logging.getLogger("stkit")

_NOTE = "reconstruction_mse"


def usual_errors(weights: Weights) -> Mapping[str, Any] | None:
    """Quantiles "p50", "p90" and "p99" of the MSE over the "images" of a test split; None when never measured.

    Images in [-1, 1] at the generator's resolution, reconstructed by the weights' own inverter.
    """
    path = weights.path("inverter")

    def read() -> Mapping[str, Any] | None:
        try:
            note = load_header(path).notes.get(_NOTE)
        except WeightsError:
            return None
        return note if isinstance(note, Mapping) and isinstance(note.get("p99"), (int, float)) else None

    return weights.keep((_NOTE, path.stat().st_mtime_ns), read) if path.exists() else None


def warn_if_unusual(weights: Weights, mse: float, photo: Path) -> None:
    """Log a warning when `mse` is above that of 99 of 100 test photos."""
    usual = usual_errors(weights)
    if usual is not None and mse > usual["p99"]:
        logger.warning(
            "%s is reconstructed badly: MSE %.3f, where %.3f is usual and 99 of 100 test photos are below %.3f; it may "
            "be misaligned or unlike the training photos (see `stkit faces %s`); `--quality best` comes closer",
            photo.name,
            mse,
            usual["p50"],
            usual["p99"],
            photo.name,
        )


def store_usual_errors(weights: Weights, errors: Tensor) -> Path:
    """Note the quantiles of `errors` [N] (MSE of each test image) in the inverter's header; the file written.

    The tensors and their fingerprint stay as they are. Raises WeightsError, OutputError.
    """
    path = weights.path("inverter")
    header, tensors = load_tensors(path)
    quantiles = {f"p{q}": round(float(errors.float().quantile(q / 100)), 5) for q in (50, 90, 99)}
    notes = {**header.notes, _NOTE: {**quantiles, "images": len(errors)}}
    save_tensors(path, tensors, dataclasses.replace(header, notes=notes))
    return path


__all__ = ["store_usual_errors", "usual_errors", "warn_if_unusual"]
