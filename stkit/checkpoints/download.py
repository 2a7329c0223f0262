"""Official checkpoints fetched by name: resumable, hash-checked, complete or not there."""

from __future__ import annotations

import http.client
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stkit.errors import OutputError, StkitError, UnknownNameError, WeightsError
from stkit.files import file_sha256
from stkit.weights import cache_folder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MANIFEST = Path(__file__).parent / "official.toml"
_BLOCK = 2**18
_TIMEOUT = 30.0  # seconds without a byte


class DownloadError(StkitError):
    """A file that cannot be fetched, or is not what was announced."""


@dataclass(frozen=True)
class Official:
    """A checkpoint that its authors offer. `sha256` is "unknown" and `size` 0 where nobody has verified them."""

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

    @property
    def by_hand(self) -> bool:
        """Whether the address is a page to open in a browser."""
        return urllib.parse.urlsplit(self.url).hostname == "drive.google.com"


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
            f"Google Drive asks before it gives this file: open {chosen.url} in a browser, then run: stkit weights "
            f"import FILE --name {name} --domain {chosen.domain}"
        )
    return chosen


def fetch_official(official: Official, progress: Callable[[int, int], None] | None = None) -> Path:
    """Fetch an official checkpoint to the cache; where it is. Raises DownloadError, OutputError."""
    path = cache_folder() / "downloads" / Path(official.file).name
    fetch(official.url, path, official.sha256, official.size, progress)
    return path


def fetch(
    url: str, path: Path, sha256: str = "unknown", size: int = 0, progress: Callable[[int, int], None] | None = None
) -> str:
    """Fetch `url` to `path` unless it is there; the sha256 of it.

    What an interrupted call has fetched lies beside it as `.part` and is taken up again. `progress` is
    called with bytes so far and in all (0 if unknown). Raises DownloadError, OutputError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and (found := file_sha256(path)) and sha256 in ("unknown", found):
            return found
        part = path.with_name(path.name + ".part")
        _fetch_part(url, part, size, progress)
        found = file_sha256(part)
        if sha256 not in ("unknown", found):
            part.unlink()
            raise DownloadError(f"{url} gave a file with sha256 {found[:12]} and not {sha256[:12]}; it was thrown away")
        part.replace(path)
        return found
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; set STKIT_HOME elsewhere") from error


def _fetch_part(url: str, part: Path, size: int, progress: Callable[[int, int], None] | None) -> None:
    """Append to `part` what it lacks. The server's ETag, kept beside it, guards against mixing two versions."""
    tag_path = part.with_name(part.name + ".etag")
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "stkit"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if tag_path.is_file():
            request.add_header("If-Range", tag_path.read_text(encoding="utf-8"))
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing is left to fetch, or the file became shorter
            whole = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
            if whole and int(whole[1]) == have:
                return
            part.unlink()
            return _fetch_part(url, part, size, progress)
        raise DownloadError(
            f"{url} answers {error.code} {error.reason}; see the project's page for its address"
        ) from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
        raise DownloadError(f"cannot reach {url}: {getattr(error, 'reason', error)}; try again later") from None
    with response:
        resumed = response.status == 206 and _starts_at(response.headers.get("Content-Range", ""), have)
        if response.status == 206 and not resumed:
            raise DownloadError(f"{url} sent another part of the file than the one asked for; try again later")
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else size
        if size and total != size:
            raise DownloadError(
                f"{url} has {total:,} bytes and not {size:,}; the file was changed, so it was not fetched"
            )
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise DownloadError(f"{url} answers with a web page; open it in a browser and save the file itself")
        if tag := response.headers.get("ETag"):
            tag_path.write_text(tag, encoding="utf-8")
        have = _write(response, part, have, total, progress)
    if total and have != total:
        raise DownloadError(f"the connection ended after {have:,} of {total:,} bytes; run the command again to go on")
    tag_path.unlink(missing_ok=True)


def _starts_at(content_range: str, offset: int) -> bool:
    return content_range.startswith(f"bytes {offset}-")


def _write(
    response: http.client.HTTPResponse, part: Path, have: int, total: int, progress: Callable[[int, int], None] | None
) -> int:
    with part.open("r+b" if have else "wb") as file:
        file.seek(have)
        while True:
            try:
                block = response.read(_BLOCK)
            except (http.client.HTTPException, ConnectionError, TimeoutError):
                break  # told from the end by the number of bytes
            if not block:
                break
            file.write(block)
            have += len(block)
            if progress:
                progress(have, total)
        file.flush()
        os.fsync(file.fileno())
    return have


__all__ = ["DownloadError", "Official", "fetch", "fetch_official", "find_official", "load_official"]
