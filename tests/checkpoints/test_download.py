"""Downloads, from a server on the loopback address that breaks, changes and refuses."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stkit.checkpoints.download import DownloadError, fetch, fetch_official, find_official, load_official
from stkit.errors import UnknownNameError
from stkit.weights import cache_folder
from tests.checkpoints.server import FileServer

DATA = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(DATA).hexdigest()
PIECE = 2**16


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(DATA) as server:
        yield server


def test_a_file_is_fetched_once(server: FileServer, tmp_path: Path) -> None:
    path, seen = tmp_path / "new" / "model.pkl", list[tuple[int, int]]()
    fetch(server.url, path, SHA256, len(DATA), lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == DATA
    assert seen[0][0] < seen[-1][0] == len(DATA)
    assert {total for _, total in seen} == {len(DATA)}
    fetch(server.url, path, SHA256)
    assert server.asked == [None]
    assert [file.name for file in path.parent.iterdir()] == ["model.pkl"]


def test_a_broken_connection_is_taken_up_again_at_once(server: FileServer, tmp_path: Path) -> None:
    server.break_after = [400_000, 500_000]
    fetch(server.url, tmp_path / "model.pkl", SHA256)
    assert (tmp_path / "model.pkl").read_bytes() == DATA
    starts = [int((asked or "bytes=0-").removeprefix("bytes=").rstrip("-")) for asked in server.asked]
    assert len(starts) == 3
    assert 0 < starts[1] <= 400_000 < starts[2] <= 900_000


def test_a_server_that_gives_nothing_more_ends_it_and_the_next_call_goes_on(server: FileServer, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    server.break_after = [400_000, 0]
    with pytest.raises(DownloadError, match=r"ended after [\d,]+ of 1,024,000 bytes; run the command again to go on"):
        fetch(server.url, path)
    assert not path.exists()
    fetch(server.url, path)
    assert path.read_bytes() == DATA
    assert server.asked[-1] == f"bytes={400_000 // PIECE * PIECE}-"
    assert [file.name for file in tmp_path.iterdir()] == ["model.pkl"]


def test_a_killed_process_is_taken_up_again(server: FileServer, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    server.pause_after = 500_000
    code = "import sys, pathlib, stkit.checkpoints.download as d; d.fetch(sys.argv[1], pathlib.Path(sys.argv[2]))"
    with subprocess.Popen([sys.executable, "-c", code, server.url, str(path)]) as process:
        part, deadline = path.with_name("model.pkl.part"), time.monotonic() + 30
        while not (part.is_file() and part.stat().st_size >= 4 * PIECE) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert not path.exists()
    server.pause_after = None
    fetch(server.url, path, SHA256)
    assert path.read_bytes() == DATA
    assert int((server.asked[-1] or "").removeprefix("bytes=").rstrip("-")) >= 4 * PIECE
    assert [file.name for file in tmp_path.iterdir()] == ["model.pkl"]


@pytest.mark.parametrize("how", ["changed", "changed date", "no ranges", "no version"])
def test_a_download_starts_anew_when_it_cannot_go_on(how: str, server: FileServer, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    server.break_after = [100_000, 0]
    if how == "changed date":
        server.tag, server.date = 'W/"weak"', "Mon, 01 Jan 2024 00:00:00 GMT"
    if how == "no version":
        server.tag = None
        server.break_after = [100_000, 50_000]
    with pytest.raises(DownloadError):
        fetch(server.url, path)
    if how.startswith("changed"):
        server.data, server.tag, server.date = DATA[::-1], server.tag and '"two"', "Tue, 02 Jan 2024 00:00:00 GMT"
    if how == "no ranges":
        server.ranges = False
    fetch(server.url, path)
    assert path.read_bytes() == server.data
    if how == "no version":
        assert server.asked == [None, None, None]


def test_a_complete_part_needs_nothing_more(server: FileServer, tmp_path: Path) -> None:
    for name, data in (("model.pkl", DATA), ("longer.pkl", DATA + b"more")):
        (tmp_path / f"{name}.part").write_bytes(data)
        (tmp_path / f"{name}.part.version").write_text(server.tag or "")
        fetch(server.url, tmp_path / name, SHA256)
        assert (tmp_path / name).read_bytes() == DATA
    assert server.sent == len(DATA)


def test_a_wrong_hash_is_thrown_away(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="sha256 is not 000000000000"):
        fetch(server.url, tmp_path / "model.pkl", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_changed_is_fetched_again(server: FileServer, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"damaged")
    fetch(server.url, path, SHA256)
    assert path.read_bytes() == DATA


def test_sizes_web_pages_and_missing_files(server: FileServer, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    with pytest.raises(DownloadError, match="has 1,024,000 bytes and not 5"):
        fetch(server.url, path, size=5)
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(DownloadError, match="web page"):
        fetch(server.url, path)
    with pytest.raises(DownloadError, match="answers 404"):
        fetch(server.url + "x", path)
    with pytest.raises(DownloadError, match=r"cannot reach http://127.0.0.1:9/none: .*refused"):
        fetch("http://127.0.0.1:9/none", path)
    with pytest.raises(DownloadError, match="cannot reach"):
        fetch("http://", path)
    assert list(tmp_path.iterdir()) == []


def test_the_list_of_official_files(server: FileServer, tmp_path: Path) -> None:
    official = load_official()
    assert all(entry.url.startswith("https://") and entry.licence and entry.source for entry in official.values())
    assert all(entry.sha256 == "unknown" or len(entry.sha256) == 64 for entry in official.values())
    assert {"psp-ffhq", "e4e-ffhq", "restyle-psp-ffhq", "restyle-e4e-ffhq", "style-transformer-ffhq"} <= set(official)
    with pytest.raises(DownloadError, match=r"by hand from https://drive.google.com/\S+, then run: stkit weights imp"):
        find_official("e4e-ffhq")
    with pytest.raises(UnknownNameError, match="did you mean"):
        find_official("e4e-fhq")
    entry = (
        f'[here]\nfile = "../../model.pkl"\nurl = "{server.url}"\nwhat = "x"\ndomain = "faces"\nlicence = "x"\n'
        f'sha256 = "{SHA256}"\nsize = {len(DATA)}\nverified = "no"\nsource = "x"\n'
    )
    (tmp_path / "list.toml").write_text(entry)
    path = fetch_official(find_official("here", tmp_path / "list.toml"))
    assert path == cache_folder() / "downloads" / "here" / "model.pkl"
    assert path.read_bytes() == DATA


def test_two_processes_do_not_fetch_the_same_file(server: FileServer, tmp_path: Path) -> None:
    import filelock

    official = load_official()["stylegan2-ffhq-256"]
    (cache_folder() / "downloads").mkdir(parents=True)
    with (
        filelock.FileLock(cache_folder() / "downloads" / f"{official.name}.lock"),
        pytest.raises(DownloadError, match="another stkit is fetching"),
    ):
        fetch_official(official)
