"""Downloads, against a server on the loopback address."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stkit.checkpoints.download import DownloadError, fetch, fetch_official, find_official, load_official
from stkit.errors import UnknownNameError
from stkit.weights import cache_folder

DATA = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(DATA).hexdigest()


@dataclass
class Server:
    url: str
    data: bytes = DATA
    tag: str | None = '"one"'
    break_after: int | None = None
    ranges: bool = True
    kind: str = "application/octet-stream"
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server("")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            data, start = state.data, 0
            if self.path != "/model.pkl":
                self.send_error(404)
                return
            same = self.headers.get("If-Range") in (None, state.tag)
            if asked and state.ranges and same:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                if start >= len(data):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(data)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.send_header("Content-Type", state.kind)
            if state.tag:
                self.send_header("ETag", state.tag)
            self.end_headers()
            self.wfile.write(data[start:][: state.break_after])

        def log_message(self, format: str, *args: object) -> None:
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    state.url = f"http://127.0.0.1:{web.server_address[1]}/model.pkl"
    yield state
    web.shutdown()
    thread.join()
    web.server_close()


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    path, seen = tmp_path / "new" / "model.pkl", list[tuple[int, int]]()
    assert fetch(server.url, path, SHA256, len(DATA), lambda done, total: seen.append((done, total))) == SHA256
    assert path.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert fetch(server.url, path, SHA256) == SHA256
    assert server.asked == [None]
    assert [file.name for file in path.parent.iterdir()] == ["model.pkl"]


def test_an_interrupted_download_goes_on(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    server.break_after = 400_000
    with pytest.raises(DownloadError, match="ended after 400,000 of 1,024,000 bytes; run the command again"):
        fetch(server.url, path, SHA256)
    assert not path.exists()
    server.break_after = None
    fetch(server.url, path, SHA256)
    assert path.read_bytes() == DATA
    assert server.asked == [None, "bytes=400000-"]


@pytest.mark.parametrize("how", ["changed", "no ranges"])
def test_a_download_starts_anew_when_it_cannot_go_on(how: str, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    server.break_after = 1000
    with pytest.raises(DownloadError):
        fetch(server.url, path)
    server.break_after = None
    if how == "changed":
        server.data, server.tag = DATA[::-1], '"two"'
    else:
        server.ranges = False
    fetch(server.url, path)
    assert path.read_bytes() == server.data


def test_a_complete_part_needs_nothing_more(server: Server, tmp_path: Path) -> None:
    (tmp_path / "model.pkl.part").write_bytes(DATA)
    assert fetch(server.url, tmp_path / "model.pkl") == SHA256
    (tmp_path / "longer.pkl.part").write_bytes(DATA + b"more")
    assert fetch(server.url, tmp_path / "longer.pkl") == SHA256


def test_a_wrong_hash_is_thrown_away(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"sha256 {SHA256[:12]} and not 000000000000"):
        fetch(server.url, tmp_path / "model.pkl", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_changed_is_fetched_again(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"damaged")
    assert fetch(server.url, path, SHA256) == SHA256
    assert path.read_bytes() == DATA


def test_sizes_web_pages_and_missing_files(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    with pytest.raises(DownloadError, match="has 1,024,000 bytes and not 5"):
        fetch(server.url, path, size=5)
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(DownloadError, match="web page"):
        fetch(server.url, path)
    with pytest.raises(DownloadError, match="answers 404"):
        fetch(server.url + "x", path)
    with pytest.raises(DownloadError, match="cannot reach"):
        fetch("http://127.0.0.1:9/none", path)
    assert not path.exists()


def test_the_list_of_official_files(server: Server, tmp_path: Path) -> None:
    official = load_official()
    assert all(entry.url.startswith("https://") and entry.licence and entry.source for entry in official.values())
    assert all(entry.sha256 == "unknown" or len(entry.sha256) == 64 for entry in official.values())
    with pytest.raises(DownloadError, match=r"open https://drive.google.com/\S+ in a browser.*weights import"):
        find_official("e4e-ffhq")
    with pytest.raises(UnknownNameError, match="did you mean"):
        find_official("e4e-fhq")
    entry = (
        f'[here]\nfile = "../../model.pkl"\nurl = "{server.url}"\nwhat = "x"\ndomain = "faces"\nlicence = "x"\n'
        f'sha256 = "{SHA256}"\nsize = {len(DATA)}\nverified = "no"\nsource = "x"\n'
    )
    (tmp_path / "list.toml").write_text(entry)
    path = fetch_official(find_official("here", tmp_path / "list.toml"))
    assert path == cache_folder() / "downloads" / "model.pkl"
    assert path.read_bytes() == DATA
