"""What every resumable run is held to, and how a test stops one."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def log_lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def stop_after(run: Any, steps: int) -> None:
    """Let `run` get a Ctrl-C in its step number `steps`."""
    step = run.step

    def interrupted(number: int) -> Mapping[str, Tensor]:
        if number == steps - 1:
            signal.raise_signal(signal.SIGINT)
        return step(number)

    run.step = interrupted


def require_same_bits(make_run: Callable[..., Any], folder: Path, steps: int = 6) -> tuple[Any, Any]:
    """A run of `steps` steps, and one that was stopped in its third and resumed; both must have ended alike."""
    straight = make_run(folder / "straight", steps)
    assert straight.train() == steps
    stopped = make_run(folder / "stopped", steps)
    stop_after(stopped, 3)
    assert stopped.train() == 3
    torch.manual_seed(99)
    resumed = make_run(folder / "stopped", steps, resume=True)
    assert resumed.train() == steps
    for ours, theirs in ((straight.model, resumed.model), (straight.ema, resumed.ema)):
        other = theirs.state_dict()
        assert [name for name, value in ours.state_dict().items() if not torch.equal(value, other[name])] == []
    return straight, resumed
