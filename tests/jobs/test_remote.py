"""Photos that lie elsewhere: URLs, buckets, lists, tar archives and Parquet files; and results that go there."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stkit.editor.editor import Editor
from stkit.errors import LatentsError, PhotoError, UsageError
from stkit.jobs.codes import keep_codes, shards_in
from stkit.jobs.report import Report, Row
from stkit.jobs.request import EditRequest, InvertRequest
from stkit.jobs.run import run
from stkit.jobs.sources import list_photos, matching
from stkit.latents.table import read_rows
from stkit.photo.images import to_image
from stkit.photo.parquet import ParquetImages
from stkit.photo.reading import load_photo
from stkit.remote import RemotePath, as_path, is_remote

fsspec = pytest.importorskip("fsspec")


def png(seed: int) -> bytes:
    coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    encoded = io.BytesIO()
    to_image(torch.nn.functional.interpolate(coarse, size=32)[0]).save(encoded, format="PNG")
    return encoded.getvalue()


PHOTOS = {"a.png": png(0), "trip/b.png": png(1), "broken.png": b"\x89PNG"}


@pytest.fixture
def memory() -> Iterator[Any]:
    """The file system `memory://`, with the photos in memory://bucket/photos."""
    system = fsspec.filesystem("memory")
    for name, data in PHOTOS.items():
        system.pipe_file(f"/bucket/photos/{name}", data)
    yield system
    system.store.clear()


def rows(report: Report, place: str) -> list[tuple[Any, ...]]:
    """What reports say, but for where things are."""
    return [(row.photo.removeprefix(place), row.status, row.mse, row.sha256) for row in report.rows]


def shown(folder: Path) -> dict[str, bytes]:
    files = folder.find() if isinstance(folder, RemotePath) else [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if path.suffix in (".png", ".csv")}


def test_a_bucket_is_a_folder_like_any_other(memory: Any, plain_weights: str, tmp_path: Path) -> None:
    for name, data in PHOTOS.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(data)
    here = run(InvertRequest(tmp_path / "photos", tmp_path / "out", weights=plain_weights))
    url = "memory://bucket/photos"
    there = run(
        InvertRequest(f"{url}/", Path("memory://bucket/photos/out"), weights=plain_weights)
    )  # as the flag gives it
    assert rows(there, f"{url}/") == rows(here, f"{tmp_path}/photos/")
    assert [row.status for row in there.rows] == ["ok", "failed", "ok"]
    ours, theirs = shown(here.out), shown(there.out)
    assert ours.pop("report.csv") and theirs.pop("report.csv").count(b"memory://bucket/photos/out/trip") == 1
    assert ours == theirs and len(ours) == 6
    known = json.loads(as_path(f"{url}/out/a/a.json").read_text())
    assert known["photo"] == f"{url}/a.png"
    again = run(InvertRequest(f"{url}/", as_path(f"{url}/out"), weights=plain_weights))
    assert [row.status for row in again.rows] == ["kept", "failed", "kept"]
    edited = run(EditRequest(f"{url}/*.png", as_path(f"{url}/out"), edits=["sefa:eig1=1"], weights=plain_weights))
    assert [row.status for row in edited.rows] == ["ok", "failed"], edited.rows
    (edit,) = edited.rows[0].results
    assert edit.files[0].parent == as_path(f"{url}/out/a") and load_photo(edit.files[0]).image.size == (32, 32)


def test_one_photo_by_its_url(memory: Any, plain_weights: str, tmp_path: Path) -> None:
    report = run(InvertRequest("memory://bucket/photos/a.png", tmp_path, weights=plain_weights))
    assert report.alone and report.rows[0].photo == "memory://bucket/photos/a.png"
    assert (tmp_path / "a" / "a.latents.safetensors").exists()
    with pytest.raises(PhotoError, match=r"there is no file memory://bucket/photos/c\.png"):
        run(InvertRequest("memory://bucket/photos/c.png", tmp_path, weights=plain_weights))


def test_latents_where_nobody_may_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(path: RemotePath) -> list[RemotePath]:
        raise OSError("NoCredentialsError: Unable to locate credentials")

    monkeypatch.setattr(RemotePath, "find", find)
    for name in ("x.latents.safetensors", "*.latents.parquet"):
        with pytest.raises(PhotoError, match="cannot read memory://b/.*: NoCredentialsError: .*; check the name"):
            list_photos([f"memory://b/{name}"], tmp_path)
        with pytest.raises(LatentsError, match="cannot read memory://b/.*: NoCredentialsError: .*; check the name"):
            matching(f"memory://b/{name}")


def test_a_tuned_generator_goes_into_the_bucket_and_comes_back(
    memory: Any, plain_weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = "memory://tuned"
    memory.pipe({"/tuned/a.png": png(0)})
    asked: dict[str, Any] = {"weights": plain_weights, "refine": ["pti:1"]}
    run(InvertRequest(f"{url}/a.png", as_path(f"{url}/out"), **asked))
    assert [name for name in memory.find("/tuned/out") if "/tuning-" in name] and not list(tmp_path.iterdir())
    monkeypatch.setattr(Editor, "invert_framed", lambda *_, **__: pytest.fail("inverted"))
    edit: dict[str, Any] = {"edits": ["sefa:eig1=1"], "weights": plain_weights}
    edited = run(EditRequest(f"{url}/a.png", as_path(f"{url}/out"), **edit, refine=["pti:1"]))
    assert [row.status for row in edited.rows] == ["ok"]
    codes = run(EditRequest(f"{url}/out/a/a.latents.safetensors", as_path(f"{url}/other"), **edit))
    assert [row.status for row in codes.rows] == ["ok"]
    one, other = (memory.cat(name) for name in memory.find("/tuned") if name.endswith("eig1+1.png"))
    assert one == other


def test_photos_of_this_machine_into_a_bucket_again_and_again(memory: Any, plain_weights: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PHOTOS["a.png"])
    asked = InvertRequest(tmp_path, Path("memory://bucket/out"), weights=plain_weights)
    assert [run(asked).rows[0].status for _ in range(2)] == ["ok", "kept"]


def test_codes_in_a_bucket_go_on_and_are_read_back(memory: Any, plain_weights: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    asked = InvertRequest("memory://bucket/photos/", as_path("memory://bucket/codes"), weights=plain_weights)
    asked = dataclasses.replace(asked, format="parquet")
    assert [run(asked).rows[0].status for _ in range(2)] == ["ok", "kept"]
    codes = "memory://bucket/codes/*.latents.parquet"
    edited = run(EditRequest(codes, tmp_path / "out", edits=["sefa:eig1=1"], weights=plain_weights))
    assert [row.status for row in edited.rows] == ["ok", "ok"]


def test_runs_that_write_codes_to_one_bucket_at_once_keep_those_of_both(memory: Any) -> None:
    out = RemotePath("memory://bucket/codes")
    runs = [
        keep_codes([Row(f"{which}.png", "failed", "why")], out, dict.fromkeys(("space", "generator", "settings"), ""))
        for which in "ab"
    ]
    for one in [*runs, *runs]:  # each has counted the files that are there before the other writes
        next(one, None)
    assert sorted(row["photo"] for path in shards_in(out) for row in read_rows(path, ["photo"])) == ["a.png", "b.png"]


def test_what_cannot_be_read_is_said(memory: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Protocol not known: s4"):
        list_photos(["s4://bucket/photos/"], tmp_path)
    with pytest.raises(PhotoError, match="there is nothing at memory://bucket/none"):
        list_photos(["memory://bucket/none/"], tmp_path)
    with pytest.raises(UsageError, match="--out is the folder of the photos"):
        list_photos(["memory://bucket/photos/"], as_path("memory://bucket/photos"))
    with pytest.raises(UsageError, match="--latents one reads results again"):
        run(InvertRequest("memory://bucket/photos/", Path("memory://bucket/out"), latents="one"))
    with pytest.raises(UsageError, match="names no file here"):
        as_path("s3://bucket//x.jpg")
    assert as_path("file:///a%20b/x.jpg") == Path("/a b/x.jpg") and not is_remote("C:/x.jpg")


@pytest.mark.parametrize("place", ["here", "memory://bucket"])
@pytest.mark.parametrize("kind", ["tar", "parquet", "datasets.parquet"])
def test_shards_of_photos(memory: Any, tmp_path: Path, place: str, kind: str) -> None:
    data = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=data, mode="w") as tar:
            for name, content in {**PHOTOS, "a.json": b"{}"}.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        if kind == "parquet":
            table = pa.table({"id": list(PHOTOS), "size": [1, 2, 3], "image": list(PHOTOS.values())})
        else:
            cells = [{"bytes": content, "path": name} for name, content in PHOTOS.items()]
            table = pa.table({"image": cells, "label": ["x", "y", "z"]})
        pq.write_table(table, data, row_group_size=2)
    shard = as_path(f"{tmp_path if place == 'here' else place}/shard.{kind}")
    shard.write_bytes(data.getvalue())
    listing = list_photos([str(shard)], tmp_path)
    assert [str(item.name) for item in listing.items] == ["a", "broken", "trip/b"]
    assert [str(item.path) for item in listing.items] == [f"{shard}/{name}" for name in sorted(PHOTOS)]
    first, broken, last = (item.path for item in listing.items)
    assert load_photo(first).data == PHOTOS["a.png"] and load_photo(last).data == PHOTOS["trip/b.png"]
    with pytest.raises(PhotoError, match="broken"):
        load_photo(broken)
    shard.write_bytes(data.getvalue()[:1000])
    with pytest.raises(PhotoError, match="cut off|cannot read|damaged"):
        list_photos([str(shard)], tmp_path)
        load_photo(first)


def test_rows_of_parquet_without_names_and_files_without_photos(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"jpg": [PHOTOS["a.png"], None]}), tmp_path / "x.parquet")
    listing = list_photos([str(tmp_path / "x.parquet")], tmp_path / "out")
    assert [item.path.name for item in listing.items] == ["0.jpg", "1.jpg"]
    with pytest.raises(PhotoError, match=r"1\.jpg holds no photo"):
        load_photo(listing.items[1].path)
    pq.write_table(pa.table({"label": ["x"]}), tmp_path / "y.parquet")
    with pytest.raises(PhotoError, match=r"y\.parquet as a parquet archive: it has no column of photos"):
        list_photos([str(tmp_path / "y.parquet")], tmp_path / "out")


def test_rows_of_parquet_in_any_order_and_repeated_names(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"jpg": [bytes([row]) for row in range(60)]}), tmp_path / "x.parquet", row_group_size=25)
    order = [*range(60), 3, 59, 24, 25, 26, 8, 7, 0]
    with (tmp_path / "x.parquet").open("rb") as file:
        images = ParquetImages(file)
        assert [images.read(row, tmp_path) for row in order] == [bytes([row]) for row in order]
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), pa.array(["n" * 1_000_000]))
    table = pa.table({"jpg": pa.array([b"x"] * 10_000), "name": repeated})
    pq.write_table(table, tmp_path / "y.parquet", store_schema=False, compression="zstd")  # 10 GB of names
    with pytest.raises(PhotoError, match="10,000 rows, more than it has bytes"):
        list_photos([str(tmp_path / "y.parquet")], tmp_path / "out")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of an HTTP server for the folder `web`."""
    for name, data in PHOTOS.items():
        (tmp_path / "web" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "web" / name).write_bytes(data)
    handler = functools.partial(Quiet, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_list_of_urls(served: str, plain_weights: str, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    lines = [f"{served}/a.png", f"{served}/trip/b.png?size=large", "web/broken.png", f"{served}/none.png", "", "a//b"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    report = run(InvertRequest(tmp_path / "list.txt", tmp_path / "out", weights=plain_weights))
    found = {row.photo.rpartition("/")[2]: row for row in report.rows}
    assert {name: row.status for name, row in found.items()} == {
        "a.png": "ok",
        "b.png?size=large": "ok",
        "broken.png": "failed",
        "none.png": "failed",
    }
    assert found["none.png"].reason == f"there is no file {served}/none.png; check the name"
    assert found["b.png?size=large"].folder == str(tmp_path / "out" / "b")


@pytest.mark.slow
def test_s3(plain_weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moto, s3fs = pytest.importorskip("moto.server"), pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    try:
        system = s3fs.S3FileSystem(skip_instance_cache=True)
        system.mkdir("bucket")
        for name, data in PHOTOS.items():
            system.pipe_file(f"bucket/photos/{name}", data)
        for status in ("ok", "kept"):
            report = run(InvertRequest("s3://bucket/photos/", Path("s3://bucket/out/"), weights=plain_weights))
            assert [row.status for row in report.rows] == [status, "failed", status]
        assert system.exists("bucket/out/trip/b/b.latents.safetensors")
        with pytest.raises(PhotoError, match="(cannot read|nothing at) s3://none"):
            list_photos(["s3://none/"], tmp_path)
    finally:
        server.stop()
