"""The batch engine with a job that counts: order, failures, memory, interruption, locks."""

from __future__ import annotations

import csv
import errno
import logging
import pickle
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pytest

from stkit.errors import NO_MEMORY, OutputError, PhotoError, WeightsError
from stkit.jobs.runner import PreparedJob, Row, prepare_batch, run_batch, write_report
from stkit.jobs.sources import Item

ITEMS = [Item(Path(f"{number:03}.jpg"), PurePosixPath(f"{number:03}")) for number in range(40)]


@dataclass
class Counting:
    """Hands numbers through; `bad` fail where they say, `alive` is what was prepared and not yet finished."""

    bad: dict[int, str] = field(default_factory=dict)
    error: Exception = field(default_factory=lambda: PhotoError("broken"))
    alive: int = 0
    most: int = 0
    sizes: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def prepare(self, item: Item) -> Row | int:
        number = int(item.name.name)
        if self.bad.get(number) == "prepare":
            raise self.error
        if self.bad.get(number) == "kept":
            return Row(str(item.path), "kept")
        logging.getLogger("stkit").warning("seen %d", number)
        with self.lock:
            self.alive += 1
            self.most = max(self.most, self.alive)
        return number

    def compute(self, prepared: Sequence[int]) -> Sequence[int]:
        self.sizes.append(len(prepared))
        if any(self.bad.get(number) == "compute" for number in prepared):
            raise self.error
        return [number * 10 for number in prepared]

    def finish(self, item: Item, result: int) -> Row:
        if self.bad.get(result // 10) == "finish":
            raise self.error
        with self.lock:
            self.alive -= 1
        return Row(str(item.path), "ok", folder=str(result))


def run(job: Counting, **keywords: int) -> dict[str, Row]:
    return {row.photo: row for row in run_batch(ITEMS, job, **keywords)}


def test_every_photo_gets_its_row_and_batches_are_full() -> None:
    job = Counting()
    rows = run(job, batch_size=8, workers=3)
    assert {photo: (row.status, row.folder) for photo, row in rows.items()} == {
        f"{number:03}.jpg": ("ok", str(number * 10)) for number in range(40)
    }
    assert job.sizes == [8] * 5
    assert rows["007.jpg"].notes == "seen 7"


def test_few_photos_are_on_their_way_at_a_time() -> None:
    many = [Item(Path(f"{number}.jpg"), PurePosixPath(str(number))) for number in range(400)]
    job = Counting()
    assert len(list(run_batch(many, job, batch_size=4, workers=2))) == 400
    assert job.most <= 2 * 4 + 2 + 3 * 4


def test_one_failure_costs_one_photo() -> None:
    job = Counting({3: "prepare", 11: "compute", 20: "finish", 25: "kept"})
    rows = run(job, batch_size=8, workers=2)
    assert {photo for photo, row in rows.items() if row.status == "failed"} == {"003.jpg", "011.jpg", "020.jpg"}
    assert rows["003.jpg"].reason == "broken"
    assert rows["025.jpg"].status == "kept"
    assert sum(row.status == "ok" for row in rows.values()) == 36


def test_unexpected_errors_are_told_with_their_kind() -> None:
    rows = run(Counting({3: "prepare"}, error=ValueError("odd")))
    assert rows["003.jpg"].reason == "unexpected ValueError: odd"


@pytest.mark.parametrize("step", ["prepare", "compute", "finish"])
def test_what_all_photos_share_ends_the_batch(step: str) -> None:
    with pytest.raises(WeightsError, match="damaged"):
        run(Counting({3: step}, error=WeightsError("damaged")))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stkit-batch")]


def test_a_full_disk_ends_the_batch_and_a_bad_name_does_not() -> None:
    full = OutputError("full")
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OutputError, match="full"):
        run(Counting({3: "finish"}, error=full))
    long = OutputError("name too long")
    long.__cause__ = OSError(errno.ENAMETOOLONG, "File name too long")
    assert run(Counting({3: "finish"}, error=long))["003.jpg"].reason == "name too long"


def test_stopping_early_leaves_no_thread() -> None:
    rows = run_batch(ITEMS, Counting(), batch_size=2, workers=2)
    next(rows)
    rows.close()  # type: ignore[attr-defined]  # a generator
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stkit-batch")]


def test_notes_go_to_the_terminal_again_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("stkit")
    filters = list(logger.filters)
    run(Counting())
    assert logger.filters == filters
    assert caplog.records == []


def test_the_report_holds_names_that_are_no_text(tmp_path: Path) -> None:
    rows = [
        Row("a,b.jpg", "ok", mse=0.25, subjects_found=2),
        Row("bad\udcff.jpg", "failed", "no \udcff"),
        Row("日本.jpg", "kept"),
    ]
    write_report(rows, tmp_path / "report.csv")
    with (tmp_path / "report.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["photo"] for row in read] == ["a,b.jpg", "bad\\udcff.jpg", "日本.jpg"]
    assert read[0]["mse"] == "0.250000" and read[0]["subjects_found"] == "2" and read[1]["reason"] == "no \\udcff"


class Narrow(Counting):
    """Memory for so many at once."""

    def compute(self, prepared: Sequence[int]) -> Sequence[int]:
        self.sizes.append(len(prepared))
        if len(prepared) > 3:
            raise MemoryError("CUDA out of memory")
        return [number * 10 for number in prepared]


def test_batches_that_memory_does_not_hold_are_halved_and_stay_so() -> None:
    job = Narrow()
    rows = list(run_batch(ITEMS, job, batch_size=8, workers=2))
    assert [row.status for row in rows] == ["ok"] * len(ITEMS)
    assert job.sizes == [8, 4, 2, 2, 4, 2, 2, *[2] * 16]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_a_photo_that_memory_does_not_hold_is_said_to_be_one(error: Exception) -> None:
    class Full(Counting):
        def finish(self, item: Item, result: int) -> Row:
            raise error

    (row,) = run_batch(ITEMS[:1], Full({}), batch_size=4)
    assert row.status == "failed" and row.reason == NO_MEMORY


def test_photos_that_are_prepared_elsewhere_give_the_same_rows() -> None:
    bad = {3: "prepare", 5: "kept", 7: "compute", 9: "finish"}
    job = Counting(bad)
    outcomes = pickle.loads(pickle.dumps(prepare_batch(ITEMS, job)))
    found = list(run_batch(ITEMS, PreparedJob(job, ITEMS, outcomes), batch_size=4))
    assert found == list(run_batch(ITEMS, Counting(bad), batch_size=4))
    assert {row.photo: row.notes for row in found}["000.jpg"] == "seen 0"
