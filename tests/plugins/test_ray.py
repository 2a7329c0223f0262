"""The engine `ray` on a real cluster of two nodes on this machine."""

from __future__ import annotations

import filecmp
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import torch

from stkit.contracts.engines import Spread
from stkit.contracts.framing import AlignmentTemplate
from stkit.errors import UsageError
from stkit.jobs.report import Row
from stkit.jobs.request import EditRequest, InvertRequest, Request
from stkit.jobs.run import run
from stkit.jobs.sources import Item
from stkit.photo.images import to_image
from stkit.plugins import load_plugins
from stkit.testing import make_tiny_weights

pytest.importorskip("ray", reason="Ray is not installed: pip install 'stkit[ray]'")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's, of itself
COUNT, BROKEN = 24, 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of two nodes with a processor each."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    yield nodes.address
    import ray

    ray.shutdown()
    nodes.shutdown()


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
        to_image(image).save(folder / f"{i:02}.png")
    for i in range(BROKEN):
        (folder / f"broken-{i}.jpg").write_bytes(b"\xff\xd8\xff" + bytes(50 * i))
    return folder


def _files(out: Path) -> dict[str, Path]:
    return {str(path.relative_to(out)): path for path in out.rglob("*") if path.is_file() and path.parent != out}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["invert", "edit"])
def test_it_gives_what_one_machine_gives(cluster: str, weights: str, photos: Path, tmp_path: Path, kind: str) -> None:
    def request(out: str, **more: Any) -> Request:
        shared: dict[str, Any] = {"weights": weights, "device": "cpu", "batch_size": 4, **more}
        if kind == "invert":
            return InvertRequest(photos, tmp_path / out, **shared)
        return EditRequest(photos, tmp_path / out, edits=["sefa:eig1=1"], **shared)

    alone = run(request("alone"))
    spread = run(request("spread", engine="ray", address=cluster))
    assert len(spread.failed) == BROKEN
    assert [(row.photo, row.status, row.reason, row.mse, row.sha256) for row in spread.rows] == [
        (row.photo, row.status, row.reason, row.mse, row.sha256) for row in alone.rows
    ]
    ours, made = _files(alone.out), _files(spread.out)
    assert ours.keys() == made.keys()
    same = [name for name in ours if not name.endswith((".json", ".safetensors"))]  # those name the folder and the time
    assert same and not [name for name in same if not filecmp.cmp(ours[name], made[name], shallow=False)]
    again = run(request("spread", engine="ray", address=cluster))
    assert [row.status for row in again.rows].count("kept") == COUNT


@pytest.mark.slow
def test_photos_of_a_worker_that_is_killed_go_to_another(
    cluster: str, weights: str, photos: Path, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_one(what: str, done: int, total: int) -> None:
        if what == "photos" and done >= 3 and not killed:
            found = subprocess.run(["pgrep", "-f", "ray::.*MapWorker"], capture_output=True, text=True, check=False)
            killed.append(int(found.stdout.split()[0]))
            os.kill(killed[0], signal.SIGKILL)

    asked = InvertRequest(photos, tmp_path / "out", weights=weights, batch_size=2, engine="ray", address=cluster)
    report = run(asked, kill_one)
    assert killed
    statuses = [row.status for row in report.rows]
    assert len(statuses) == COUNT + BROKEN and statuses.count("failed") == BROKEN
    assert statuses.count("ok") + statuses.count("kept") == COUNT


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


@pytest.mark.slow
def test_a_photo_that_no_worker_survives_is_told(cluster: str) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests
    names = ["a", "b", "deadly", "c", "d"]
    items = [Item(Path(name), PurePosixPath(name)) for name in names]
    found = load_plugins().engine("ray").rows(items, partial(Deadly), Spread(cluster, together=2))
    rows = {row.photo: row for row in found}
    assert {name: rows[name].status for name in names} == {
        name: "failed" if name == "deadly" else "ok" for name in names
    }
    assert "no worker survived it" in rows["deadly"].reason


def test_what_cannot_be_spread_is_said_at_the_start(weights: str, photos: Path, tmp_path: Path) -> None:
    one = photos / "00.png"
    with pytest.raises(UsageError, match="--engine is for many photos"):
        run(InvertRequest(one, tmp_path, weights=weights, engine="ray"))
    with pytest.raises(UsageError, match="are for an --engine"):
        InvertRequest(photos, tmp_path, workers=2)
    with pytest.raises(UsageError, match="no engine named 'rey': did you mean ray"):
        run(InvertRequest(photos, tmp_path, weights=weights, engine="rey"))
