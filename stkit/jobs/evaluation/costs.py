"""What an inverter costs: parameters, multiply-adds, time and memory for one photo."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from stkit.contracts.inversion import ignore_progress
from stkit.jobs.evaluation.photos import Photos
from stkit.jobs.evaluation.plan import System
from stkit.models.style_transformer import load_style_transformer
from stkit.photo.images import resize_batch
from stkit.tensors import count_numbers
from stkit.weights import load_header

RUNS = 9
_ENOUGH = 30  # seconds of runs, after which a slow inverter is not run again


def measure_costs(
    systems: Sequence[System], photos: Photos, on_progress: Callable[[int, int], None] = ignore_progress
) -> dict[str, dict[str, float]]:
    """By system: `parameters` of the encoder and `gmacs` of one inversion, `ms` and `peak_mb` of one photo.

    `ms` is the median of runs that alternate between the systems, of the inversion as stkit runs it, without the
    picture; `peak_mb` is what a process of its own takes beyond what it had before it loaded the networks.
    """
    crops = {s.label: photos.crops(photos.names[:1], s.editor.domain, s.editor.weights.resolution) for s in systems}
    total, done = 2 * len(systems) + RUNS, 0
    found: dict[str, dict[str, float]] = {system.label: {} for system in systems}

    def tell() -> None:
        nonlocal done
        done += 1
        on_progress(done, total)

    for system in systems:
        found[system.label] = {"parameters": _parameters(system), "gmacs": _macs(system, crops[system.label]) / 1e9}
        tell()
    times: dict[str, list[float]] = {system.label: [] for system in systems}
    for _ in range(RUNS):
        for system in systems:
            if sum(times[system.label]) > 1000 * _ENOUGH:
                continue
            start = time.perf_counter()
            system.invert(crops[system.label])
            times[system.label].append(1000 * (time.perf_counter() - start))
        tell()
    for system in systems:
        found[system.label]["ms"] = statistics.median(times[system.label])
        found[system.label] |= _peak(system, crops[system.label])
        tell()
    return found


def budget(system: System) -> Mapping[str, Any]:
    """What the encoder's header says of its training: `data`, `images`, `steps`, `batch`, `seconds`."""
    weights = system.editor.weights
    kind = weights.inverters().get(system.inverter)
    notes = load_header(weights.path(kind)).notes if kind else {}
    known = ("data", "images", "steps", "batch", "seconds")
    return {name: notes[name] for name in known if name in notes}


def _parameters(system: System) -> float:
    """Of the encoder, without what the generator has; 0 for an inverter that has none."""
    weights = system.editor.weights
    kind = weights.inverters().get(system.inverter)
    return float(count_numbers(weights.path(kind))) if kind else 0.0


def _macs(system: System, crop: torch.Tensor) -> float:
    """Multiply-adds of one inversion, by torch's own counter."""
    weights = system.editor.weights
    counter = FlopCounterMode(display=False)
    # The network itself, not its faster form, part of which is not counted.
    if system.inverter == "style-transformer" and not system.refine:
        model = load_style_transformer(weights)
        with torch.no_grad(), counter:
            model(resize_batch(crop, model.config.input_resolution))
    else:
        with counter:
            system.invert(crop)
    return counter.get_total_flops() / 2


def _peak(system: System, crop: torch.Tensor) -> dict[str, float]:
    """`peak_mb`, of CUDA or of a process of its own."""
    if system.editor.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        system.invert(crop)
        return {"peak_mb": torch.cuda.max_memory_allocated() / 2**20}
    asked = [str(system.editor.weights.folder), system.inverter, dict(system.options), system.refine, list(crop.shape)]
    command = [sys.executable, "-m", "stkit.jobs.evaluation.memory", json.dumps(asked, default=str)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"peak_mb": float(ran.stdout)} if ran.returncode == 0 else {}


__all__ = ["RUNS", "budget", "measure_costs"]
