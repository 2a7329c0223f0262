"""The people at the page: what each of them works on, in which files, and what is loaded for all."""

from __future__ import annotations

import contextlib
import html
import logging
import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stkit.plugin import UsageError
from stkit_web.errors import nameless
from stkit_web.guard import OWNER, Owners

if TYPE_CHECKING:
    import gradio as gr

    from stkit import Editor, Latents
    from stkit_web.work import Work

logger = logging.getLogger("stkit")

SEATS = 24
"""How many people keep their photos; who came first has to drop the photo again when there are more."""
PIXELS = 400_000_000
"""Of all photos that are kept, three bytes each."""
_EDITORS = 3
_REMEMBERED = 10_000
_GONE = "the page lost touch with the server; load it again"


@dataclass
class Seat:
    """One tab of one browser window; `folder` has its files. `settled` are the edits of the last full picture,
    `codes` those of photos that are not edited."""

    owner: str
    folder: Path
    work: Work | None = None
    settled: dict[str, float] = field(default_factory=dict)
    version: int = 0
    codes: dict[str, Latents] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)
    files: list[Path] = field(default_factory=list)
    given_up: bool = False


class Desk:
    """All seats, by browser, window and tab of the page; and the editors, by the names of their weights.

    Who makes a picture of a slider that moves holds `looking`.
    """

    def __init__(self, root: Path, device: str, owners: Owners) -> None:
        self.root = root
        self.device = device
        self.owners = owners
        self._left: OrderedDict[str, None] = OrderedDict()
        self._seats: OrderedDict[tuple[str, str, str], Seat] = OrderedDict()
        self._editors: OrderedDict[str, Editor] = OrderedDict()
        self.looking = threading.Lock()
        self._lock = threading.RLock()
        self._loading = threading.Lock()

    def editor(self, weights: str) -> Editor:
        """The editor of weights by name; the ones used last are kept. Raises UnknownNameError, WeightsError."""
        from stkit import find_weights, load

        with self._loading:
            if weights not in self._editors:
                self._editors[weights] = load(find_weights(weights), self.device)
            self._editors.move_to_end(weights)
            while len(self._editors) > _EDITORS:
                self._editors.popitem(last=False)
            return self._editors[weights]

    def seat(self, request: gr.Request, tab: str) -> Seat:
        """The seat of who asks, a new one if need be. Raises UsageError for a window that was closed meanwhile."""
        owner = owner_of(request)
        key = owner, str(request.session_hash), tab
        with self._lock:
            if key[1] in self._left:  # what waited in line for it would leave files behind
                raise UsageError(_GONE)
            if key not in self._seats:
                self._seats[key] = Seat(owner, self.root / secrets.token_hex(16))
            self._seats.move_to_end(key)
            self._make_room(key)
            return self._seats[key]

    def work(self, request: gr.Request, tab: str) -> Work:
        """What who asks works on. Raises UsageError when there is nothing, or not any more."""
        work = self.seat(request, tab).work
        if work is None or work.latents is None:
            raise UsageError("there is no photo here; drop one (after a long pause or many guests, drop it again)")
        return work

    def leave(self, request: gr.Request) -> None:
        """Forget a window that was closed, its files too."""
        owner = owner_of(request)
        with self._lock:
            self._left[str(request.session_hash)] = None
            while len(self._left) > _REMEMBERED:
                self._left.popitem(last=False)
            for key in [key for key in self._seats if key[1] == str(request.session_hash)]:
                if key[0] == owner or not owner:
                    self._remove(key)

    def write(self, seat: Seat, name: str, data: bytes) -> Path:
        """A file that the seat's owner may fetch; a folder of its own keeps its name. Raises UsageError, as `seat`."""
        path = seat.folder / secrets.token_hex(8) / name
        with self._lock:
            if seat.given_up:
                raise UsageError(_GONE)
            path.parent.mkdir(parents=True)
            path.write_bytes(data)
            self.owners.give(path, seat.owner)
            seat.files.append(path)
        return path

    def drop_files(self, seat: Seat) -> None:
        """Remove what was written for the seat."""
        for path in seat.files:
            self.owners.forget(path, seat.owner)
        seat.files = []
        shutil.rmtree(seat.folder, ignore_errors=True)

    def close(self) -> None:
        """Forget everybody."""
        with self._lock:
            for key in list(self._seats):
                self._remove(key)

    def _make_room(self, mine: tuple[str, str, str]) -> None:
        def pixels() -> int:
            return sum(seat.work.pixels for seat in self._seats.values() if seat.work is not None)

        while len(self._seats) > SEATS or pixels() > PIXELS:
            oldest = next(iter(self._seats))
            if oldest == mine:
                return
            self._remove(oldest)

    def _remove(self, key: tuple[str, str, str]) -> None:
        seat = self._seats.pop(key)
        seat.cancelled.set()
        seat.version += 1
        seat.work = None
        seat.given_up = True
        self.drop_files(seat)


def owner_of(request: gr.Request) -> str:
    """The cookie of who asks, as the guard saw it; empty for programs."""
    return str(request.headers.get(OWNER.decode(), ""))


def take(path: str | Path, desk: Desk, request: gr.Request) -> bytes:
    """The bytes of a file that who asks has uploaded, which is gone then. Raises PhotoError for any other."""
    from stkit.plugin import PhotoError

    owner = owner_of(request)
    try:
        data = Path(path).read_bytes() if desk.owners.may(str(path), owner) else None
    except OSError:
        data = None
    if data is None:
        raise PhotoError("the upload is not there any more; drop the photo again")
    if desk.owners.forget(path, owner):
        Path(path).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            Path(path).parent.rmdir()
    return data


class _Notes(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread and record.levelno >= logging.WARNING:
            self.texts.append(record.getMessage())


@contextlib.contextmanager
def notes() -> Iterator[list[str]]:
    """What the command line would warn of, of what this thread does in the block."""
    handler = _Notes()
    logger.addHandler(handler)
    try:
        yield handler.texts
    finally:
        logger.removeHandler(handler)


def as_html(texts: list[str]) -> str:
    """Lines for people who look and for those who listen."""
    return "".join(f'<p role="status">{html.escape(nameless(text))}</p>' for text in dict.fromkeys(texts))


__all__ = ["PIXELS", "SEATS", "Desk", "Seat", "as_html", "notes", "owner_of", "take"]
