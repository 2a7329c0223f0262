"""The engine `ray`: Ray Data streams a job's photos through workers that hold the model."""

from __future__ import annotations

import faulthandler
import logging
import os
import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from stkit.plugin import Engine, Item, MissingPackageError, Row, Spread, UsageError, run_batch

_TOO_LONG = 1800
"""Seconds after which a worker that has not finished its photos is taken for dead."""
_ATTEMPTS = 2
_DIED = "no worker survived it (out of memory, killed, or half an hour without an end); try it alone"


class RayEngine(Engine):
    """Ray Data (https://docs.ray.io/en/latest/data/data.html).

    Photos go out in small blocks, to no more workers than have room, so memory stays the same for any number of them.
    A block whose worker dies is given to another, then its photos to one each.
    """

    name = "ray"
    description = "Ray Data: processes of this machine, or of a cluster (pip install 'stkit[ray]')"

    def rows(self, items: Sequence[Item], make_job: Callable[[], Any], spread: Spread) -> Iterator[Row]:
        """See `Engine.rows`. Raises MissingPackageError, UsageError when the cluster cannot be reached."""
        workers = _connect(spread)
        missing = {str(item.path): item for item in items}
        for together in dict.fromkeys((spread.together, 1)):  # which photo of a block it was is found out one by one
            for row in _pass(list(missing.values()), make_job, spread, together, workers):
                del missing[row.photo]
                yield row
            if not missing:
                return
        yield from (Row(photo, "failed", _DIED) for photo in missing)


class Attempts:
    """An actor that outlives workers: how often each block was begun, since Ray would begin it for ever."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, block: str) -> int:
        """How often `block` has been begun, this time included."""
        self._begun[block] += 1
        return self._begun[block]


class Worker:
    """An actor: one job, with its networks, for all blocks that come."""

    def __init__(self, make_job: Callable[[], Any], attempts: Any) -> None:
        self._job = make_job()
        self._attempts = attempts

    def __call__(self, block: dict[str, Any]) -> dict[str, Any]:
        """What became of a block of items: rows, or nothing; an error that would be the same for all is among them."""
        import ray

        items = [pickle.loads(item) for item in block["item"]]  # the driver's own
        if ray.get(self._attempts.begin.remote("|".join(str(item.path) for item in items))) > _ATTEMPTS:
            return {"row": [pickle.dumps(None) for _ in items]}
        faulthandler.dump_traceback_later(_TOO_LONG, exit=True)
        try:
            rows: list[Any] = list(run_batch(items, self._job, len(items), workers=2))
        except Exception as error:
            rows = [error, *[None] * (len(items) - 1)]
        finally:
            faulthandler.cancel_dump_traceback_later()
        return {"row": [pickle.dumps(row) for row in rows]}


def _pass(
    items: Sequence[Item], make_job: Callable[[], Any], spread: Spread, together: int, workers: int
) -> Iterator[Row]:
    """The rows of one pass over `items` in blocks of `together`; none for those that no worker survived."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    attempts = ray.remote(Attempts).options(num_cpus=0).remote()
    blocks = -(-len(items) // together)
    table = ray.data.from_items([{"item": pickle.dumps(item)} for item in items], override_num_blocks=blocks)
    done = table.map_batches(
        Worker,
        batch_size=together,
        fn_constructor_args=(make_job, attempts),
        concurrency=min(workers, blocks),
        num_cpus=1,
        num_gpus=spread.gpus_per_worker or None,
    )
    for one in done.iter_rows():
        row = pickle.loads(one["row"])
        if isinstance(row, Exception):
            raise row
        if row is not None:
            yield row


def _connect(spread: Spread) -> int:
    """Join the cluster, or start one of this machine's processes; how many workers there is room for."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it would warn of what Ray Data does itself
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingPackageError("the engine ray needs Ray Data: pip install 'stkit[ray]'") from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if not ray.is_initialized():
        try:
            ray.init(address=spread.address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = spread.address or "this machine"
            raise UsageError(f"no Ray cluster at {where}: {error}; start one with `ray start --head`") from error
    there = ray.cluster_resources()
    if spread.gpus_per_worker and there.get("GPU", 0) < spread.gpus_per_worker:
        raise UsageError(f"--gpus-per-worker {spread.gpus_per_worker:g}, and the cluster has {there.get('GPU', 0):g}")
    room = int(there.get("CPU", 1))
    if spread.gpus_per_worker:
        room = min(room, int(there["GPU"] / spread.gpus_per_worker))
    return min(spread.workers or room, room)


__all__ = ["Attempts", "RayEngine", "Worker"]
