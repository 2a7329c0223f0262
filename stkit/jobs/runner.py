"""One photo or many through one model; many are read and located in threads, computed in batches, written in threads.

Threads serve: dlib's detector, Pillow's decoders and torch all run without Python's lock. What a step hands on is the
crop, not the photo, a bounded number of photos is on its way, and large ones wait their turn (`stkit.photo.room`), so
memory grows neither with the folder nor with the photos in it.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import errno
import itertools
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from stkit.errors import (
    NO_MEMORY,
    MissingPackageError,
    OutputError,
    StkitError,
    UsageError,
    WeightsError,
    is_out_of_memory,
    reason_of,
)
from stkit.jobs.report import REPORT, Row, write_report
from stkit.jobs.sources import Item
from stkit.photo.room import turn

PreparedT = TypeVar("PreparedT")
ResultT = TypeVar("ResultT")

# These say the same of every photo: the batch ends with them.
_FATAL = (UsageError, WeightsError, MissingPackageError)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}

_notes: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("notes", default=None)


class Job(Protocol, Generic[PreparedT, ResultT]):
    """What a batch does with its photos. A StkitError fails one photo, unless it would be the same for all of them."""

    def prepare(self, item: Item) -> Row | PreparedT:
        """In a thread: read, locate, crop. A Row when there is nothing to compute."""

    def compute(self, prepared: Sequence[PreparedT]) -> Sequence[ResultT]:
        """In the caller's thread, one batch at a time: one result each."""

    def finish(self, item: Item, result: ResultT) -> Row:
        """In a thread: write."""


class FolderJob(Job[PreparedT, ResultT], Protocol):
    """A job that leaves pictures in a folder."""

    def pictures(self, item: Item) -> list[Path]:
        """What to show of an item that is done."""


def run_one(item: Item, job: Job[PreparedT, ResultT], tell: Callable[[str, int, int], None]) -> Row:
    """The row of an item that is alone, in this thread: what goes wrong is raised, what is logged is told as well.

    `tell` is called as each step begins, with what it is and two zeros, since nobody knows how long it takes.
    """
    notes: list[str] = []
    with _filtered(_NoteFilter(tell=True)), _noting(notes):
        tell("looking for the subject", 0, 0)
        prepared = job.prepare(item)
        if isinstance(prepared, Row):
            return _noted(prepared, notes)
        tell("computing", 0, 0)
        (result,) = job.compute([prepared])
        tell("writing", 0, 0)
        return _noted(job.finish(item, result), notes)


def prepare_batch(items: Iterable[Item], job: Job[PreparedT, ResultT], workers: int = 2) -> list[Any]:
    """The first step of each item's job, in threads; `PreparedJob` goes on with what comes out, which can be pickled.

    Raises what would be the same for all photos.
    """
    with _filtered(_NoteFilter()), ThreadPoolExecutor(workers, thread_name_prefix="stkit-prepare") as pool:
        futures = [pool.submit(_attempt, item, job.prepare, item) for item in items]
        return [future.result() for future in futures]


class PreparedJob:
    """The other steps of a `Job`, for items that `prepare_batch` has prepared, maybe in another process."""

    def __init__(self, job: Job[PreparedT, ResultT], items: Iterable[Item], outcomes: Iterable[Any]) -> None:
        self._outcomes = {str(item.path): outcome for item, outcome in zip(items, outcomes, strict=True)}
        self.compute, self.finish = job.compute, job.finish

    def prepare(self, item: Item) -> Any:
        """What was prepared; what was noted then is noted now."""
        outcome, notes = self._outcomes.pop(str(item.path))
        for note in notes:
            logging.getLogger("stkit").warning("%s", note)
        return outcome


def run_batch(
    items: Iterable[Item], job: Job[PreparedT, ResultT], batch_size: int = 8, workers: int | None = None
) -> Iterator[Row]:
    """Yield a row for each item as it is done, in about their order; the steps of different photos overlap.

    `workers` is the number of threads beside the caller's, by default one a processor and 8 at most. Raises what would
    be the same for all photos (UsageError, WeightsError, a full disk, ...); then, and when the caller stops early,
    photos on their way are finished or left undone, never half-written. Batches that memory does not hold are halved,
    and so are the later ones.
    """
    most = batch_size
    workers = workers or min(os.cpu_count() or 1, 8)
    queue = iter(items)
    preparing: deque[tuple[Item, Future[_Outcome]]] = deque()
    writing: deque[Future[_Outcome]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="stkit-batch")
    filtered = contextlib.ExitStack()
    filtered.enter_context(_filtered(_NoteFilter()))
    try:
        while True:
            batch: list[tuple[Item, PreparedT, list[str]]] = []
            while len(batch) < most:
                for item in itertools.islice(queue, 2 * batch_size + workers - len(preparing)):
                    preparing.append((item, pool.submit(_attempt, item, job.prepare, item)))
                if not preparing:
                    break
                item, future = preparing.popleft()
                outcome, notes = future.result()
                if isinstance(outcome, Row):
                    yield _noted(outcome, notes)
                else:
                    batch.append((item, outcome, notes))
            if not batch:
                break
            outcomes, most = _compute(job, batch, most)
            for item, result, notes in outcomes:
                if isinstance(result, Row):
                    yield _noted(result, notes)
                else:
                    writing.append(pool.submit(_attempt, item, job.finish, item, result, notes=notes))
            while len(writing) > batch_size:
                yield _noted(*writing.popleft().result())
        while writing:
            yield _noted(*writing.popleft().result())
    finally:
        pool.shutdown(cancel_futures=True)
        filtered.close()


_Outcome = tuple  # (result or Row, notes)


def _compute(
    job: Job[PreparedT, ResultT], batch: list[tuple[Item, PreparedT, list[str]]], most: int
) -> tuple[list[_Outcome], int]:
    """(item, result or failed Row, notes) of a batch, and how many go together from now on, `most` or fewer.

    When it fails as a whole, each photo gets a try of its own; each half, when memory does not hold it.
    """
    common: list[str] = []
    try:
        with _noting(common):
            results = job.compute([prepared for _, prepared, _ in batch])
    except _FATAL:
        raise
    except Exception as error:
        if len(batch) == 1:
            item, _, notes = batch[0]
            return [(item, _failed(item, error), notes)], most
        size = 1
        if is_out_of_memory(error):
            size = len(batch) // 2
            most = min(most, max(size, 1))
        outcomes = []
        for start in range(0, len(batch), size):
            part, most = _compute(job, batch[start : start + size], most)
            outcomes += part
        return outcomes, most
    return [(item, result, [*notes, *common]) for (item, _, notes), result in zip(batch, results, strict=True)], most


def _attempt(item: Item, step: Callable, *arguments: object, notes: Iterable[str] = ()) -> _Outcome:
    """The result of a step, or a failed Row, and the notes so far with what the step logged."""
    collected = list(notes)
    try:
        with _noting(collected), turn():
            return step(*arguments), collected
    except _FATAL:
        raise
    except Exception as error:
        if isinstance(error, OutputError) and getattr(error.__cause__, "errno", None) in _FULL:
            raise
        return _failed(item, error), collected


@contextlib.contextmanager
def _noting(notes: list[str]) -> Iterator[None]:
    token = _notes.set(notes)
    try:
        yield
    finally:
        _notes.reset(token)


def _failed(item: Item, error: Exception) -> Row:
    if isinstance(error, StkitError):
        text = str(error)
    elif is_out_of_memory(error):
        text = NO_MEMORY
    else:
        text = f"unexpected {type(error).__name__}: {reason_of(error)}"
    return Row(str(item.path), "failed", " ".join(text.split()))


def _noted(row: Row, notes: Iterable[str]) -> Row:
    return dataclasses.replace(row, notes="; ".join(notes))


class _NoteFilter(logging.Filter):
    """What is logged about one photo goes into its row instead of to the terminal; to both with `tell`."""

    def __init__(self, tell: bool = False) -> None:
        super().__init__()
        self._tell = tell

    def filter(self, record: logging.LogRecord) -> bool:
        notes = _notes.get()
        if notes is not None:
            notes.append(record.getMessage())
        return self._tell or notes is None


@contextlib.contextmanager
def _filtered(note_filter: _NoteFilter) -> Iterator[None]:
    logger = logging.getLogger("stkit")
    logger.addFilter(note_filter)
    try:
        yield
    finally:
        logger.removeFilter(note_filter)


__all__ = [
    "REPORT",
    "FolderJob",
    "Job",
    "PreparedJob",
    "Row",
    "prepare_batch",
    "run_batch",
    "run_one",
    "write_report",
]
