"""How events of the page wait for each other, and work that goes on in the background."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable
from typing import Any

from stkit_web.errors import Cancelled

LAST: dict[str, Any] = {"trigger_mode": "always_last"}
"""For what may come again while it is being dealt with: by default Gradio forgets it. An Image that gets a photo from
the clipboard or the camera says first that it is empty now."""
PLAIN: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
FAST: dict[str, Any] = {**PLAIN, "queue": False}
FULL: dict[str, Any] = {**PLAIN, "concurrency_id": "full", "concurrency_limit": 1}
OPEN: dict[str, Any] = {**PLAIN, "concurrency_id": "open", "concurrency_limit": 1, "show_progress": "full"}
CLOSER: dict[str, Any] = {**PLAIN, "concurrency_id": "closer", "concurrency_limit": 1}
"""Pictures of moving sliders are answered at once, past the queue, which takes longer than they do; `Desk.looking` has
them made one after the other. Inversions in the background wait for each other."""


class Background:
    """A computation in a thread of its own, until it is done or `cancelled`.

    `compute` gets a function to call with (done, total), which raises Cancelled when nobody wants it any more.
    """

    def __init__(self, compute: Callable[[Callable[[int, int], None]], Any], cancelled: threading.Event) -> None:
        self.cancelled = cancelled
        self.done, self.total = 0, 0
        self._outcome: Any = None
        # No daemon: torch ends the process by a crash when it is in the middle of something.
        self._thread = threading.Thread(target=self._run, args=(compute,))
        self._thread.start()

    def running(self) -> bool:
        """Whether it is still computing, half a second later at most."""
        self._thread.join(0.5)
        return self._thread.is_alive()

    def result(self) -> Any:
        """What it computed. Raises what it raised, Cancelled too."""
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        if self.cancelled.is_set():
            raise Cancelled
        return self._outcome

    def bar(self, name: str) -> str:
        """How far `name` is, for people who look and for those who listen."""
        if not self.total:
            return f'<p role="status">{html.escape(name)}: starting</p><progress></progress>'
        text = f"{html.escape(name)}: {self.done} of {self.total}"
        return f'<p role="status">{text}</p><progress value="{self.done}" max="{self.total}">{text}</progress>'

    def _run(self, compute: Callable[[Callable[[int, int], None]], Any]) -> None:
        try:
            self._outcome = compute(self._tell)
        except BaseException as error:
            self._outcome = error

    def _tell(self, done: int, total: int) -> None:
        if self.cancelled.is_set():
            raise Cancelled
        self.done, self.total = done, total


__all__ = ["CLOSER", "FAST", "FULL", "LAST", "OPEN", "PLAIN", "Background"]
