"""`python -m stkit.jobs.evaluation.memory JSON`: the memory of one inversion, measured in a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def resident() -> float:
    """The most memory in MiB that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux's getrusage counts what the parent had
        return float(status.read_text().partition("VmHWM:")[2].split()[0]) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Print what one inversion takes in MiB beyond what torch takes itself."""
    import torch

    from stkit.editor.editor import load
    from stkit.jobs.evaluation.plan import System
    from stkit.weights import find_weights

    weights, inverter, options, refine, shape = json.loads(sys.argv[1])
    torch.zeros(1)
    before = resident()
    System(load(find_weights(weights), "cpu"), inverter, options, "", tuple(refine)).invert(torch.zeros(shape))
    print(resident() - before)


__all__ = ["main", "resident"]

if __name__ == "__main__":
    main()
