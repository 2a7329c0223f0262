"""The engine `ray`: Ray Data streams a job's photos through workers that hold the model."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import logging
import os
import pickle
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from stkit.plugin import (
    Engine,
    Item,
    MissingPackageError,
    OutputError,
    PreparedJob,
    Row,
    Spread,
    StkitError,
    UsageError,
    prepare_batch,
    run_batch,
)

_TOO_LONG = 1800
"""Seconds after which a worker that has not finished its photos is taken for dead."""
_ATTEMPTS = 2
_AT_ONCE = 20_000
"""Photos whose blocks Ray keeps count of; the next ones wait."""
_DIED = "no worker survived it (out of memory, killed, or half an hour without an end); try it alone"


class RayEngine(Engine):
    """Ray Data (https://docs.ray.io/en/latest/data/data.html).

    Photos go out in small blocks, to no more workers than have room, so memory stays the same for any number of them.
    A block whose worker dies is given to another, then its photos to one each. Where workers have GPUs, photos are read
    and their subjects found by tasks on processors, and the workers do the rest; on processors alone a worker does
    both, in threads, which costs no copies.
    """

    name = "ray"
    description = "Ray Data: processes of this machine, or of a cluster (pip install 'stkit[ray]')"

    def rows(self, items: Sequence[Item], make_job: Callable[[], Any], spread: Spread) -> Iterator[Row]:
        """See `Engine.rows`. Raises MissingPackageError, UsageError when the cluster cannot be reached, OutputError."""
        workers = _connect(spread)
        from ray.exceptions import RayError

        try:
            for start in range(0, len(items), _AT_ONCE):
                part = items[start : start + _AT_ONCE]
                if (spread.address or "").startswith("ray://"):
                    yield from _rows_there(part, make_job, spread, workers)
                else:
                    yield from _rows(part, make_job, spread, workers)
        except RayError as error:
            reason = " ".join(str(getattr(error, "cause", None) or error).split())[-300:]
            raise OutputError(
                f"the Ray cluster failed ({reason}); start the same command again, which keeps what is done"
            ) from error


class Attempts:
    """An actor that outlives workers: how often each block was begun, since Ray would begin it for ever."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, block: str) -> int:
        """How often `block` has been begun, this time included."""
        self._begun[block] += 1
        return self._begun[block]


def prepare(block: dict[str, Any], make_job: bytes, attempts: Any, folder: str) -> dict[str, Any]:
    """A task: the first step of a block of items, which a `Worker` goes on with; None of each that killed a task."""
    _go_to(folder)
    items = _items(block)
    outcomes: list[Any] = [None for _ in items]
    if _may_begin("prepare", items, attempts):
        with _ended():
            try:
                outcomes = prepare_batch(items, _job(make_job))
            except Exception as error:
                outcomes = [error, *outcomes[1:]]
    return {"item": block["item"], "prepared": [pickle.dumps(outcome) for outcome in outcomes]}


class Worker:
    """An actor: one job, with its networks, for all blocks that come."""

    def __init__(self, make_job: Callable[[], Any], attempts: Any, folder: str) -> None:
        _go_to(folder)
        self._attempts = attempts
        self._wrong: StkitError | None = None
        try:
            self._job = make_job()
        except StkitError as error:  # a row says it; Ray would start the worker again, for ever
            self._wrong = error

    def __call__(self, block: dict[str, Any]) -> dict[str, Any]:
        """What became of a block of items: rows, or nothing; an error that would be the same for all is among them."""
        items = _items(block)
        prepared = [pickle.loads(outcome) for outcome in block.get("prepared", ())]
        rows: list[Any] = [None for _ in items]
        if self._wrong is not None:
            rows[0] = self._wrong
        elif any(outcome is None or isinstance(outcome, Exception) for outcome in prepared):
            rows[0] = prepared[0]
        elif _may_begin("", items, self._attempts):
            job = PreparedJob(self._job, items, prepared) if prepared else self._job
            with _ended():
                try:
                    rows = list(run_batch(items, job, len(items), workers=2))
                except Exception as error:
                    rows[0] = error
        return {"row": [pickle.dumps(row) for row in rows]}


def _go_to(folder: str) -> None:
    """Relative names mean the driver's; a machine that does not have its folder has only absolute ones."""
    with contextlib.suppress(OSError):
        os.chdir(folder)


def _items(block: dict[str, Any]) -> list[Item]:
    return [pickle.loads(item) for item in block["item"]]  # the driver's own


def _may_begin(step: str, items: Sequence[Item], attempts: Any) -> bool:
    """Whether a step of these items has not killed too many processes."""
    import ray

    name = "|".join([step, *(str(item.path) for item in items)])
    return bool(ray.get(attempts.begin.remote(name)) <= _ATTEMPTS)


@contextlib.contextmanager
def _ended() -> Iterator[None]:
    """The process ends when this takes too long."""
    faulthandler.dump_traceback_later(_TOO_LONG, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@functools.lru_cache(maxsize=1)
def _job(make_job: bytes) -> Any:
    """The job of the tasks of this process."""
    return pickle.loads(make_job)()


def _rows(items: Sequence[Item], make_job: Callable[[], Any], spread: Spread, workers: int) -> Iterator[Row]:
    missing = {str(item.path): item for item in items}
    share = -(-len(items) // max(workers, 1))  # of few photos every worker gets some
    # Which photo of a block it was that killed workers is found out one by one.
    for together in dict.fromkeys((min(spread.together, share), 1)):
        for row in _pass(list(missing.values()), make_job, spread, together, workers):
            del missing[row.photo]
            yield row
        if not missing:
            return
    yield from (Row(photo, "failed", _DIED) for photo in missing)


class Driver:
    """An actor that drives for a machine outside of the cluster (`ray://`), from where Ray Data cannot be driven."""

    def __init__(self, items: bytes, make_job: bytes, spread: Spread, workers: int, folder: str) -> None:
        _go_to(folder)
        self._rows = _rows(pickle.loads(items), pickle.loads(make_job), spread, workers)

    def next(self) -> bytes:
        """The next row, pickled; None at the end, or an error."""
        try:
            return pickle.dumps(next(self._rows, None))
        except StkitError as error:
            return pickle.dumps(error)


def _rows_there(items: Sequence[Item], make_job: Callable[[], Any], spread: Spread, workers: int) -> Iterator[Row]:
    import ray
    from ray import cloudpickle

    given = pickle.dumps(list(items)), cloudpickle.dumps(make_job), spread, workers, os.getcwd()
    driver: Any = ray.remote(Driver).options(num_cpus=0).remote(*given)
    while (row := pickle.loads(ray.get(driver.next.remote()))) is not None:
        if isinstance(row, Exception):
            raise row
        yield row


def _pass(
    items: Sequence[Item], make_job: Callable[[], Any], spread: Spread, together: int, workers: int
) -> Iterator[Row]:
    """The rows of one pass over `items` in blocks of `together`; none for those that no worker survived."""
    import ray.data
    from ray import cloudpickle
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.data.DataContext.get_current().enable_progress_bars = False
    # Where the driver is: on a node that goes it would take the run with it.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    lasting: dict[str, Any] = {"max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    attempts = ray.remote(Attempts).options(num_cpus=0, **lasting).remote()
    blocks = -(-len(items) // together)
    table: Any = ray.data.from_items([{"item": pickle.dumps(item)} for item in items], override_num_blocks=blocks)
    gpus = spread.gpus_per_worker
    if gpus:
        given = {"make_job": cloudpickle.dumps(make_job), "attempts": attempts, "folder": os.getcwd()}
        table = table.map_batches(prepare, batch_size=together, fn_kwargs=given, num_cpus=1)
    # On processors no block waits for one worker while another has none.
    ahead = 2 if gpus else 1
    done = table.map_batches(
        Worker,
        batch_size=together,
        fn_constructor_args=(make_job, attempts, os.getcwd()),
        compute=ray.data.ActorPoolStrategy(size=min(workers, blocks), max_tasks_in_flight_per_actor=ahead),
        num_cpus=0 if gpus else 1,
        num_gpus=gpus or None,
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
            _require_answer(spread.address)
            ray.init(address=spread.address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ImportError, OSError, ValueError, RuntimeError) as error:
            where, reason = spread.address or "this machine", " ".join(str(error).split()).rstrip(".")
            raise UsageError(f"no Ray cluster at {where}: {reason}; start one with `ray start --head`") from error
    there = ray.cluster_resources()
    if spread.gpus_per_worker and there.get("GPU", 0) < spread.gpus_per_worker:
        raise UsageError(f"--gpus-per-worker {spread.gpus_per_worker:g}, and the cluster has {there.get('GPU', 0):g}")
    gpus = spread.gpus_per_worker
    room = int(there["GPU"] / gpus) if gpus else int(there.get("CPU", 1))
    return min(spread.workers or room, room)


def _require_answer(address: str | None) -> None:
    """Raise OSError where nothing listens at HOST:PORT: Ray would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


__all__ = ["Attempts", "Driver", "RayEngine", "Worker", "prepare"]
