"""A folder beside one call a photo: `python -m benchmarks.folders PHOTOS [--calls N] [--weights NAME]`.

`stkit invert PHOTOS` and `stkit invert PHOTO`, N times, run as processes of their own, in turn and on the same machine:
half of the single calls before the folder, half after it. Start-up is included on both sides. A photo's time is that of
the wall clock and that of the processor (user and system), which busy neighbours change less.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stkit.jobs.sources import list_photos


def measure(sources: list[str], out: Path, weights: str) -> tuple[float, float]:
    """Seconds of wall clock and of processor that one `stkit invert` takes. Failed photos (exit code 3) are allowed."""
    before, start = _cpu(), time.perf_counter()
    command = [sys.executable, "-m", "stkit", "invert", *sources, "--out", str(out), "--weights", weights]
    run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if run.returncode not in (0, 3):
        raise SystemExit(run.stderr)
    return time.perf_counter() - start, _cpu() - before


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.folders", description="A folder beside single calls.")
    parser.add_argument("photos", help="a folder of photos that all have a subject; take 50 or more")
    parser.add_argument("--calls", type=int, default=6, help="single calls (default 6)")
    parser.add_argument("--weights", default="faces")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        items = list_photos([args.photos], out).items
        chosen = items[:: max(1, len(items) // args.calls)][: args.calls]
        singles = []
        for number, item in enumerate(chosen):
            if number == len(chosen) // 2:
                wall, cpu = measure([args.photos], out / "folder", args.weights)
            singles.append(measure([str(item.path)], out / f"single{number}", args.weights))
    single_wall, single_cpu = (sum(times) / len(times) for times in zip(*singles, strict=True))
    table = Table("", "wall a photo", "processor a photo", title=f"{len(items)} photos, {len(chosen)} single calls")
    table.add_row("one call a photo", f"{single_wall:.2f} s", f"{single_cpu:.2f} s")
    table.add_row("the folder", f"{wall / len(items):.3f} s", f"{cpu / len(items):.3f} s")
    table.add_row("ratio", f"{single_wall / (wall / len(items)):.1f}", f"{single_cpu / (cpu / len(items)):.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
