"""The engine `ray` on a real cluster of two nodes on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import filecmp
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import torch

from stkit.contracts.engines import Spread
from stkit.contracts.framing import AlignmentTemplate
from stkit.datasets.labels import AttributeSpec, load_labels
from stkit.editor.opening import open_editor
from stkit.errors import UnknownNameError, UsageError
from stkit.jobs.evaluation.run import evaluate
from stkit.jobs.labelled import labelled_rows
from stkit.jobs.report import Report, Row, read_report
from stkit.jobs.request import EditRequest, EvaluateRequest, InvertRequest, LabelledRequest, Request
from stkit.jobs.run import run
from stkit.jobs.sources import Item
from stkit.latents.latents import load_latents
from stkit.photo.images import to_image
from stkit.plugins import load_plugins
from stkit.testing import make_tiny_weights
from stkit.weights import cache_folder, find_weights

pytest.importorskip("ray", reason="Ray is not installed: pip install 'stkit[ray]'")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's, of itself
COUNT, BROKEN = 285, 15
CLIENTS = 27501


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Two nodes with a processor each, and a GPU that is none."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1, num_gpus=1)
    yield nodes
    import ray

    ray.shutdown()
    nodes.shutdown()


@pytest.fixture
def cluster(nodes: Any) -> str:
    """Their address."""
    return str(nodes.address)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    make_tiny_weights(folder, "plain", alignment=AlignmentTemplate("box", 16, ((0, 0), (16, 16))))
    return str(folder)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    coarse = torch.rand(COUNT, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for i, image in enumerate(torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")):
        to_image(image).save(folder / f"{i:03}.png")
    for i in range(BROKEN):
        (folder / f"broken-{i:02}.jpg").write_bytes(b"\xff\xd8\xff" + bytes(50 * i))
    return folder


def few(photos: Path) -> list[str]:
    """Twenty of them, ten of which are broken."""
    return [f"{photos}/01*.png", f"{photos}/broken-0*.jpg"]


def ask(kind: str, sources: Any, out: Path, weights: str, **more: Any) -> Request:
    shared: dict[str, Any] = {"weights": weights, "device": "cpu", "batch_size": 4, **more}
    if kind == "invert":
        return InvertRequest(sources, out, **shared)
    return EditRequest(sources, out, edits=["sefa:eig1=1"], **shared)


def files_in(out: Path) -> dict[str, Path]:
    return {str(path.relative_to(out)): path for path in out.rglob("*") if path.is_file() and path.parent != out}


def require_same(spread: Report, alone: Report) -> None:
    """The same rows; pictures byte for byte, and codes within 1e-5."""
    same = [
        (row.photo, row.reason, row.mse, row.lpips, row.sha256, row.notes, row.subjects_found) for row in alone.rows
    ]
    assert same == [
        (row.photo, row.reason, row.mse, row.lpips, row.sha256, row.notes, row.subjects_found) for row in spread.rows
    ]
    assert [row.photo for row in spread.failed] == [row.photo for row in alone.failed]
    ours, made = files_in(alone.out), files_in(spread.out)
    assert ours.keys() == made.keys()
    codes = [name for name in ours if name.endswith(".safetensors")]
    pictures = [name for name in ours if not name.endswith((".safetensors", ".json"))]
    assert pictures and not [name for name in pictures if not filecmp.cmp(ours[name], made[name], shallow=False)]
    assert codes
    for name in codes:
        assert torch.allclose(load_latents(ours[name]).codes, load_latents(made[name]).codes, rtol=0, atol=1e-5)


def reachable(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def kill_one(after: int) -> tuple[list[int], Any]:
    """The number of a worker that is killed when so many photos are done, and what does it."""
    killed: list[int] = []

    def tell(what: str, done: int, total: int) -> None:
        if what == "photos" and done >= after and not killed:
            found = subprocess.run(["pgrep", "-f", "ray::.*MapWorker"], capture_output=True, text=True, check=False)
            killed.append(int(found.stdout.split()[0]))
            os.kill(killed[0], signal.SIGKILL)

    return killed, tell


@pytest.mark.slow
def test_three_hundred_photos_of_which_some_are_broken_and_a_worker_is_killed(
    cluster: str, weights: str, photos: Path, tmp_path: Path
) -> None:
    alone = run(ask("invert", photos, tmp_path / "alone", weights))
    killed, tell = kill_one(after=100)
    spread = run(ask("invert", photos, tmp_path / "spread", weights, engine="ray", address=cluster), tell)
    assert killed and len(spread.rows) == COUNT + BROKEN and len(spread.failed) == BROKEN
    require_same(spread, alone)
    again = run(ask("invert", photos, tmp_path / "spread", weights, engine="ray", address=cluster))
    assert [row.status for row in again.rows].count("kept") == COUNT


@pytest.mark.slow
@pytest.mark.parametrize("kind, more", [("edit", {}), ("invert", {"gpus_per_worker": 1.0})])
def test_it_gives_what_one_machine_gives(
    cluster: str, weights: str, photos: Path, tmp_path: Path, kind: str, more: dict[str, Any]
) -> None:
    alone = run(ask(kind, few(photos), tmp_path / "alone", weights))
    spread = run(ask(kind, few(photos), tmp_path / "spread", weights, engine="ray", address=cluster, **more))
    assert len(spread.failed) == 10
    require_same(spread, alone)


@pytest.mark.slow
def test_codes_in_parquet(cluster: str, weights: str, photos: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"weights": weights, "batch_size": 4, "format": "parquet"}
    reports = [
        run(InvertRequest(few(photos), tmp_path / "alone", **asked)),
        run(InvertRequest(few(photos), tmp_path / "spread", engine="ray", address=cluster, **asked)),
    ]
    alone, spread = ([(row.photo, row.status, row.mse) for row in report.rows] for report in reports)
    assert alone == spread
    tables = [load_latents(next(report.out.glob("*.parquet"))) for report in reports]
    ours, made = ({one.photo: row for one, row in zip(t.provenance, t.codes, strict=True)} for t in tables)
    assert ours.keys() == made.keys() and len(ours) == 10
    assert all(torch.allclose(ours[photo], made[photo], rtol=0, atol=1e-5) for photo in ours)


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on_when_it_is_started_again(
    cluster: str, weights: str, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    sources = [f"{photos}/0*.png", f"{photos}/broken-00.jpg"]
    flags = ["--out", str(out), "--weights", weights, "--engine", "ray", "--address", cluster, "--batch-size", "2"]
    command = [sys.executable, "-m", "stkit", "invert", *sources, *flags]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(out.glob("*/*.json"))) < 10:
        assert driver.poll() is None
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    rows = read_report(out / "report.json") or []
    statuses = [row.status for row in rows]
    assert len(rows) == 101 and statuses.count("failed") == 1 and statuses.count("kept") >= 10
    assert statuses.count("kept") + statuses.count("ok") == 100


@pytest.mark.slow
def test_evaluations_and_labelled_codes(cluster: str, weights: str, photos: Path, tmp_path: Path) -> None:
    data, labels = tmp_path / "data", tmp_path / "labels.csv"
    data.mkdir()
    for i in range(30):
        shutil.copy(photos / f"{i:03}.png", data)
    labels.write_text("file,red\n" + "".join(f"{i:03}.png,{i % 2}\n" for i in range(30)))
    ray: dict[str, Any] = {"engine": "ray", "address": cluster}
    asked = EvaluateRequest(data, tmp_path / "alone", weights=weights, metrics="mse", limit=10, costs=False)
    alone, spread = evaluate(asked), evaluate(dataclasses.replace(asked, out=tmp_path / "spread", **ray))
    for ours, theirs in zip(alone["systems"], spread["systems"], strict=True):
        assert ours["means"]["mse"]["mean"] == pytest.approx(theirs["means"]["mse"]["mean"], rel=1e-5)
    editor, specs = open_editor(None, weights, "cpu"), [AttributeSpec("red", None)]
    fit = LabelledRequest(labels=labels, images=data, weights=weights, device="cpu")
    theirs, _ = labelled_rows(editor, dataclasses.replace(fit, **ray), load_labels(labels), specs)
    shutil.rmtree(cache_folder() / "codes")
    ours, _ = labelled_rows(editor, fit, load_labels(labels), specs)
    assert ours.names == theirs.names and len(ours.names) == 30
    assert torch.allclose(ours.codes, theirs.codes, rtol=0, atol=1e-5)


class Deadly:
    """A job in which one photo kills its process."""

    def prepare(self, item: Item) -> Row | Item:
        if item.path.name == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    def compute(self, prepared: list[Item]) -> list[Item]:
        return prepared

    def finish(self, item: Item, result: Item) -> Row:
        return Row(str(item.path), "ok")


class Hanging(Deadly):
    """A job in which one photo never ends, where five seconds are too long."""

    def __init__(self) -> None:
        from stkit_ray import engine

        engine._TOO_LONG = 5

    def prepare(self, item: Item) -> Row | Item:
        if item.path.name == "deadly":
            time.sleep(3600)
        return item


@pytest.mark.slow
@pytest.mark.parametrize("job", [Deadly, Hanging])
def test_a_photo_that_no_worker_survives_is_told(cluster: str, job: type[Deadly]) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests
    names = ["a", "b", "deadly", "c", "d"]
    items = [Item(Path(name), PurePosixPath(name)) for name in names]
    found = load_plugins().engine("ray").rows(items, partial(job), Spread(cluster, together=2))
    rows = {row.photo: row for row in found}
    assert {name: rows[name].status for name in names} == {
        name: "failed" if name == "deadly" else "ok" for name in names
    }
    assert "no worker survived it" in rows["deadly"].reason


@pytest.mark.slow
def test_a_driver_outside_of_the_cluster(cluster: str, weights: str, photos: Path, tmp_path: Path) -> None:
    run(ask("invert", few(photos), tmp_path / "alone", weights))
    flags = ["--weights", weights, "--engine", "ray", "--address", f"ray://127.0.0.1:{CLIENTS}", "--batch-size", "4"]
    command = [sys.executable, "-m", "stkit", "invert", *few(photos), "--out", str(tmp_path / "spread"), *flags]
    serve = ["-m", "ray.util.client.server", "--address", cluster, "--host", "127.0.0.1", "--port", str(CLIENTS)]
    with subprocess.Popen([sys.executable, *serve, "--mode", "specific-server"], stderr=subprocess.DEVNULL) as server:
        while not reachable(CLIENTS):
            assert server.poll() is None
            time.sleep(0.2)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        server.kill()
    assert done.returncode == 3, done.stderr
    outs = tmp_path / "spread", tmp_path / "alone"
    spread, alone = (Report(tuple(read_report(out / "report.json") or ()), out) for out in outs)
    assert len(spread.failed) == 10
    require_same(spread, alone)


def test_where_nothing_listens_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        with pytest.raises(UsageError, match=f"no Ray cluster at {address}: .*refused"):
            next(load_plugins().engine("ray").rows([], partial(Deadly), Spread(address)))


class Leisurely(Deadly):
    """A job that takes its time, and goes on although a photo is there already."""

    def finish(self, item: Item, result: Item) -> Row:
        time.sleep(0.05)
        return super().finish(item, result)


@pytest.mark.slow
def test_a_node_that_goes_loses_no_photo(nodes: Any, cluster: str) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    third = nodes.add_node(num_cpus=1)
    items = [Item(Path(f"{i:03}"), PurePosixPath(f"{i:03}")) for i in range(150)]
    rows: list[Row] = []
    for row in load_plugins().engine("ray").rows(items, partial(Leisurely), Spread(cluster, together=4)):
        rows.append(row)
        if len(rows) == 20:
            nodes.remove_node(third, allow_graceful=False)
    assert sorted(row.photo for row in rows) == [str(item.path) for item in items]
    assert {row.status for row in rows} == {"ok"}


class Signed(Deadly):
    """A job whose rows say which process made them."""

    def finish(self, item: Item, result: Item) -> Row:
        time.sleep(0.5)
        return Row(str(item.path), "ok", str(os.getpid()))


@pytest.mark.slow
def test_every_worker_gets_some_of_few_photos(cluster: str) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    for names, together in ("abcdefghijklmnop", 1), ("abcdefghijklmnop", 16):
        items = [Item(Path(name), PurePosixPath(name)) for name in names]
        spread = Spread(cluster, workers=2, together=together)
        rows = list(load_plugins().engine("ray").rows(items, partial(Signed), spread))
        assert len(rows) == len(names) and len({row.reason for row in rows}) == 2


@pytest.mark.slow
def test_what_a_worker_finds_wrong_is_told_as_on_one_machine(cluster: str, tmp_path: Path) -> None:
    items = [Item(Path(name), PurePosixPath(name)) for name in "abc"]
    with pytest.raises(UnknownNameError, match="no weights named 'nowhere'"):
        list(load_plugins().engine("ray").rows(items, partial(find_weights, "nowhere"), Spread(cluster, together=2)))


def test_what_cannot_be_spread_is_said_at_the_start(weights: str, photos: Path, tmp_path: Path) -> None:
    one = photos / "000.png"
    with pytest.raises(UsageError, match="--engine is for many photos"):
        run(InvertRequest(one, tmp_path, weights=weights, engine="ray"))
    with pytest.raises(UsageError, match="are for an --engine"):
        InvertRequest(photos, tmp_path, workers=2)
    with pytest.raises(UsageError, match="no engine named 'rey': did you mean ray"):
        run(InvertRequest(photos, tmp_path, weights=weights, engine="rey"))
