"""Is a reconstruction as good as usual? The usual errors are measured once and kept beside the weights' inverter."""

from __future__ import annotations

import dataclasses
import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stkit.contracts.domains import DEFAULT_DOMAIN, Domain
from stkit.errors import WeightsError
from stkit.tensors import load_tensors, save_tensors
from stkit.weights import load_header, note_number

if TYPE_CHECKING:
    from torch import Tensor

    from stkit.weights import Weights

logger = logging.getLogger("stkit")

USUAL_ERRORS = "usual_errors"


def usual_errors(weights: Weights) -> Mapping[str, Any] | None:
    """Quantiles "p50", "p90" and "p99" of "mse" and "lpips" over the "images" of a test split; None if never measured.

    As `Inverted.metrics` has them, of reconstructions by the weights' own inverter.
    """
    path = weights.path("inverter")

    def read() -> Mapping[str, Any] | None:
        try:
            note = load_header(path).notes.get(USUAL_ERRORS)
        except WeightsError:
            return None
        return note if isinstance(note, Mapping) else None

    return weights.keep((USUAL_ERRORS, path.stat().st_mtime_ns), read) if path.exists() else None


def warn_if_unusual(weights: Weights, metrics: Mapping[str, float], photo: Path, domain: Domain) -> None:
    """Log a warning when the LPIPS of a reconstruction, without it the MSE, is above that of 99 of 100 test photos.

    LPIPS notices misaligned crops that MSE lets pass, see `benchmarks.unusual`.
    """
    name = "lpips" if "lpips" in metrics else "mse"
    usual, most = (note_number(usual_errors(weights) or {}, name, quantile) for quantile in ("p50", "p99"))
    if usual is not None and most is not None and metrics[name] > most:
        where = "" if domain.name == DEFAULT_DOMAIN else f" --domain {domain.name}"
        found = f" (see `stkit faces {shlex.quote(str(photo))}{where}`)" if domain.searches else ""
        logger.warning(
            "%s is reconstructed badly: %s %.3f, where %.3f is usual and 99 of 100 test photos are below %.3f; it may "
            "be misaligned or unlike the training photos%s; `--quality best` comes closer",
            photo.name,
            name.upper(),
            metrics[name],
            usual,
            most,
            found,
        )


def store_usual_errors(weights: Weights, errors: Mapping[str, Tensor]) -> Path:
    """Note the quantiles of "mse" and "lpips" [N] of test images in the inverter's header; the file written.

    The tensors and their fingerprint stay as they are. Raises WeightsError, OutputError.
    """
    path = weights.own_path("inverter")
    header, tensors = load_tensors(weights.path("inverter"))
    note: dict[str, Any] = {"images": len(errors["mse"])}
    for name, values in errors.items():
        note[name] = {f"p{q}": round(float(values.float().quantile(q / 100)), 5) for q in (50, 90, 99)}
    save_tensors(path, tensors, dataclasses.replace(header, notes={**header.notes, USUAL_ERRORS: note}))
    return path


__all__ = ["USUAL_ERRORS", "store_usual_errors", "usual_errors", "warn_if_unusual"]
