"""`stkit weights download ffhq` as it is installed, with the user's own pip: what it brings, and all that can fail."""

from __future__ import annotations

import contextlib
import http.server
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from stkit.checkpoints.download import load_official
from stkit.weights import DOWNLOADS, cache_folder, find_weights, user_folder, verify_weights
from tests.cli.harness import Cli

OFFICIAL = load_official()["ffhq"]
STKIT = Path(sys.executable).with_name("stkit")
BY_HAND = "with `pip download --no-deps random-face==2021.7.21.1`, then run: stkit weights download ffhq --wheel FILE"


Call = Callable[..., tuple[int, str, list[str]]]
"""Exit code, stdout and the lines of stderr of a download with some flags, in an environment `env`."""


@pytest.fixture
def call(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Call:
    def run(*flags: object, env: Mapping[str, str] = MappingProxyType({})) -> tuple[int, str, list[str]]:
        with monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            ran = cli("weights", "download", "ffhq", *flags)
        return ran.code, ran.out, ran.err.splitlines()

    return run


def call_limited(limit: int, *flags: object, env: Mapping[str, str] | None = None) -> tuple[int, str, list[str]]:
    """The same in a process that may write files of so many bytes."""
    run = subprocess.run(
        [str(STKIT), "weights", "download", "ffhq", *map(str, flags)],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    return run.returncode, run.stdout, run.stderr.splitlines()


def index(folder: Path) -> dict[str, str]:
    """An environment in which pip knows the files in `folder` alone."""
    return {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_NO_CACHE_DIR": "1"}


def remote(url: str) -> dict[str, str]:
    """An environment in which pip knows the index at `url` alone."""
    own = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": url, "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": ""}
    return {**own, "PIP_RETRIES": "1", "PIP_NO_CACHE_DIR": "1", "NO_PROXY": "127.0.0.1"}


def require_failure(result: tuple[int, str, list[str]], *said: str, code: int = 1) -> None:
    """One line that says so, and nothing installed or left in the cache."""
    assert result[0] == code, result
    assert len(result[2]) == 1 and result[2][0].startswith("error: "), result[2]
    for text in said:
        assert text in result[2][0]
    assert not (user_folder() / "ffhq").exists()
    downloads = cache_folder() / "downloads"
    assert not downloads.exists() or [path.name for path in downloads.iterdir()] == ["ffhq.lock"]


def write_other_wheel(folder: Path) -> None:
    """A wheel of the same name and version with nothing in it."""
    folder.mkdir()
    info = "random_face-2021.7.21.1.dist-info"
    with zipfile.ZipFile(folder / OFFICIAL.file, "w") as archive:
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: random-face\nVersion: 2021.7.21.1\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def test_pip_brings_it_once(call: Call, ffhq_wheel: Path) -> None:
    first = call(env=index(ffhq_wheel.parent))
    assert first[0] == 0, first
    assert "generator" in first[1].splitlines()[0]
    assert "non-commercial" in first[2][-1]
    weights = find_weights("ffhq")
    header = weights.header
    assert (header.domain, header.alignment.kind, header.fingerprint) == ("faces", "ffhq", OFFICIAL.fingerprint)
    assert (weights.resolution, weights.num_ws) == (1024, 23)
    assert header.licence.startswith("non-commercial research") and header.notes["source sha256"] == OFFICIAL.sha256
    assert verify_weights(weights)["generator.safetensors"] == "ok"
    again = call(env=remote("http://127.0.0.1:9/simple"))
    assert again[0] == 0 and again[1].startswith("ffhq is there already, and intact")
    path = weights.path("generator")
    path.write_bytes(path.read_bytes()[:1000])
    (path.parent / "direction-own.safetensors").write_bytes(b"the user's")
    mended = call("--wheel", ffhq_wheel, env=remote("http://127.0.0.1:9/simple"))
    assert mended[0] == 0, mended
    assert verify_weights(find_weights("ffhq"))["generator.safetensors"] == "ok"
    assert (path.parent / "direction-own.safetensors").read_bytes() == b"the user's"


def test_what_the_list_and_the_weights_say_agree() -> None:
    assert OFFICIAL.package and OFFICIAL.how == "pip"
    assert {
        name: f"{official.size / 1e6:.0f} MB" for name, official in load_official().items() if official.package
    } == (dict(DOWNLOADS))


def test_no_network(call: Call) -> None:
    require_failure(call(env=remote("http://127.0.0.1:9/simple")), "pip cannot fetch", "Connection refused", BY_HAND)


def test_an_index_without_the_package(call: Call, tmp_path: Path) -> None:
    require_failure(call(env=index(tmp_path)), "it is in no package index that can be reached", BY_HAND)


def test_a_wrong_hash(call: Call, tmp_path: Path) -> None:
    write_other_wheel(tmp_path / "index")
    require_failure(call(env=index(tmp_path / "index")), "whose sha256 is not e5d10e2be7df", "thrown away", BY_HAND)
    wheel = tmp_path / "index" / OFFICIAL.file
    require_failure(call("--wheel", wheel), "is cut short", "fetch it again, with: pip download")


def test_a_wheel_that_is_cut_short(call: Call, tmp_path: Path, ffhq_wheel: Path) -> None:
    wheel = tmp_path / OFFICIAL.file
    wheel.write_bytes(ffhq_wheel.read_bytes()[:10_000_000])
    require_failure(call(env=index(tmp_path)), OFFICIAL.package, BY_HAND)
    require_failure(call("--wheel", wheel), "is cut short: 10,000,000 of 37,588,926 bytes")
    require_failure(call("--wheel", tmp_path / "none.whl"), "No such file")


def test_no_room(ffhq_wheel: Path) -> None:
    """For pip's file, and then for the converted one."""
    said = ("set STKIT_HOME elsewhere",)
    require_failure(call_limited(10_000_000, env=index(ffhq_wheel.parent)), "there is no room in", *said)
    require_failure(call_limited(10_000_000, "--wheel", ffhq_wheel), "cannot write", "File too large", *said)
    user_folder().mkdir(parents=True, exist_ok=True)
    assert list(user_folder().iterdir()) == []


class _Stalling(http.server.BaseHTTPRequestHandler):
    """An index whose wheel never comes to an end."""

    def do_GET(self) -> None:
        file = self.path.endswith(".whl")
        page = f'<a href="/{OFFICIAL.file}">{OFFICIAL.file}</a>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream" if file else "text/html")
        self.send_header("Content-Length", str(OFFICIAL.size if file else len(page)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(bytes(2_000_000) if file else page)
            while file:
                time.sleep(0.1)
                self.wfile.write(b"0")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stalling() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Stalling) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/simple"
        server.shutdown()


def test_an_interrupted_download(stalling: str) -> None:
    command = [str(STKIT), "weights", "download", "ffhq"]
    environment = {**os.environ, **remote(stalling)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            work = (cache_folder() / "downloads" / "ffhq").rglob("*.whl")
            with contextlib.suppress(OSError):
                if any(path.stat().st_size > 1_000_000 for path in work):
                    break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, text = process.communicate(timeout=30)
    require_failure(
        (process.returncode, "", text.splitlines()), "interrupted: nothing was installed; run the command", code=130
    )


@pytest.fixture
def bare(tmp_path: Path) -> list[str]:
    """stkit run by a Python that has all of this one's packages but pip."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for place in (Path(path) for path in sys.path if path.endswith("site-packages")):
        for path in place.iterdir():
            if not path.name.startswith(("pip-", "__pycache__")) and path.name != "pip":
                with contextlib.suppress(FileExistsError):
                    (packages / path.name).symlink_to(path)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    root = Path(__file__).parents[2]
    return ["env", f"PYTHONPATH={os.pathsep.join(map(str, (packages, root, root / 'plugins')))}",
            str(tmp_path / "bare" / "bin" / "python"), "-m", "stkit", "weights", "download", "ffhq"]  # fmt: skip


def test_no_pip(bare: list[str], tmp_path: Path, ffhq_wheel: Path) -> None:
    """None at all; then one on the PATH."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "env").symlink_to(shutil.which("env") or "/usr/bin/env")
    environment = {**os.environ, **index(ffhq_wheel.parent), "PATH": str(place)}
    run = subprocess.run(bare, env=environment, capture_output=True, text=True, check=False, timeout=120)
    require_failure((run.returncode, run.stdout, run.stderr.splitlines()), "has no pip", "ensurepip", BY_HAND)
    (place / "pip").write_text(f'#!/bin/sh\nexec {sys.executable} -m pip "$@"\n')
    (place / "pip").chmod(0o755)
    run = subprocess.run(bare, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    assert find_weights("ffhq").fingerprint == OFFICIAL.fingerprint
