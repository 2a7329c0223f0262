"""What an engine costs and gives: `python -m benchmarks.many_machines PHOTOS [--weights NAME] [--format FORMAT]`.

`stkit invert PHOTOS` without an engine, and by Ray with 1 and with 2 workers, one after the other and then in the
opposite order, each a process of its own with one thread for torch, as a worker has. The rate is that from the first
block of photos that is done to the last, so start-up is told apart. Bytes a photo are those of the results.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stkit.jobs.report import Row
from stkit.jobs.request import InvertRequest
from stkit.jobs.run import run
from stkit.jobs.sources import list_photos

BATCH = 4
RUNS = {"a folder run": 0, "ray, 1 worker": 1, "ray, 2 workers": 2}


def measure(photos: str, weights: str, workers: int, kind: str) -> dict[str, float]:
    """Seconds until the first block is done, photos a second after it, and bytes a photo. Failed photos count."""
    done: list[float] = []

    def tell(what: str, count: int, total: int) -> None:
        if what == "photos" and count:
            done.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        shared = {"weights": weights, "batch_size": BATCH, "format": kind, "overwrite": True}
        engine = {"engine": "ray", "workers": workers} if workers else {}
        report = run(InvertRequest(photos, Path(folder), **shared, **engine), tell)  # type: ignore[arg-type]
        size = sum(path.stat().st_size for path in report.out.rglob("*") if path.is_file())
    count = len(report.rows)
    if count < 10 * BATCH:
        raise SystemExit(f"{count} photos are too few for a rate; take {10 * BATCH} or more")
    first = BATCH * max(workers, 1)
    rate = (count - first) / (done[-1] - done[first - 1])
    return {"start": done[first - 1] - started, "rate": rate, "bytes": size / count, "count": count}


def kept(count: int) -> float:
    """Bytes a photo of what the driver keeps of `count`: their list, and their rows as they come from workers."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            Path(folder, f"{number:07}.jpg").touch()
        tracemalloc.start()
        items = list_photos([folder], Path(folder, "out")).items
        rows = {}
        for item in items:
            sha256 = hashlib.sha256(item.path.name.encode()).hexdigest()
            row = Row(str(item.path), "ok", "", "s3://bucket/codes", 1, "HOG", 0.02, 0.16, sha256)
            rows[row.photo] = pickle.loads(pickle.dumps(row))
        return tracemalloc.get_traced_memory()[0] / len(rows)


def apart(photos: str, weights: str, workers: int, kind: str) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.many_machines", photos, "--weights", weights, "--format", kind]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command += ["--measure", str(workers)]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return {str(name): float(value) for name, value in json.loads(made.stdout.splitlines()[-1]).items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_machines", description="What an engine costs.")
    parser.add_argument("photos", nargs="?", help="a folder of 40 photos or more")
    parser.add_argument("--kept", type=int, metavar="N", help="only print what the driver keeps of N photos")
    parser.add_argument("--weights", default="faces")
    parser.add_argument("--format", default="folder", choices=("folder", "parquet"))
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.kept:
        print(f"{kept(args.kept) / 1000:.1f} KB a photo")
        return
    if args.photos is None:
        parser.error("a folder of photos is needed")
    if args.measure is not None:
        print(json.dumps(measure(args.photos, args.weights, args.measure, args.format)))
        return
    load = os.getloadavg()[0]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    for name in [*RUNS, *reversed(RUNS)]:
        one = apart(args.photos, args.weights, RUNS[name], args.format)
        found[name].append(one)
        print(f"{name}: {one['start']:.0f} s until the first block, then {one['rate']:.2f} photos/s", flush=True)
    table = Table("", "until the first block", "photos/s", "beside the folder run", "KB a photo")
    rates = {name: sum(one["rate"] for one in runs) / len(runs) for name, runs in found.items()}
    for name, runs in found.items():
        start = sum(one["start"] for one in runs) / len(runs)
        ratio = rates[name] / rates["a folder run"]
        table.add_row(name, f"{start:.0f} s", f"{rates[name]:.2f}", f"{ratio:.2f}", f"{runs[0]['bytes'] / 1000:.0f}")
    count = found["a folder run"][0]["count"]
    table.title = f"{count:.0f} photos, {args.weights}, {os.cpu_count()} processors, load {load:.1f} at the start"
    Console().print(table)


if __name__ == "__main__":
    main()
