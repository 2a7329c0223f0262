"""A server of one file on the loopback address, with the failures that servers have."""

from __future__ import annotations

import http.server
import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass
class FileServer:
    """Serves `data` at `url`. Each answer uses up one of `break_after`: the bytes it sends before it hangs up.

    With `pause_after`, an answer sends that many bytes and then nothing until `pause_after` is None.
    """

    data: bytes
    tag: str | None = '"one"'
    date: str | None = None
    ranges: bool = True
    kind: str = "application/octet-stream"
    break_after: list[int] = field(default_factory=list)
    pause_after: int | None = None
    url: str = ""
    asked: list[str | None] = field(default_factory=list)
    sent: int = 0

    def __enter__(self) -> FileServer:
        handler = type("Handler", (_Handler,), {"state": self})
        self._web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._web.daemon_threads = True
        self._thread = threading.Thread(target=self._web.serve_forever, args=(0.02,))
        self._thread.start()
        self._ended = threading.Event()
        self.url = f"http://127.0.0.1:{self._web.server_address[1]}/model.pkl"
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._web.shutdown()
        self._thread.join()
        self._web.server_close()

    def wait(self) -> None:
        """Until nothing is to be paused any more."""
        while self.pause_after is not None and not self._ended.wait(0.02):
            pass


class _Handler(http.server.BaseHTTPRequestHandler):
    state: FileServer

    def do_GET(self) -> None:
        state = self.state
        asked = self.headers.get("Range")
        state.asked.append(asked)
        data, start = state.data, 0
        if self.path != "/model.pkl":
            self.send_error(404)
            return
        if asked and state.ranges and self.headers.get("If-Range") in (None, state.tag, state.date):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self._answer(416, 0, {"Content-Range": f"bytes */{len(data)}"})
                return
        more = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        self._answer(206 if start else 200, len(data) - start, more)
        body = data[start:]
        body = body[: state.break_after.pop(0)] if state.break_after else body
        state.sent += len(body)
        self.wfile.write(body[: state.pause_after])
        if state.pause_after is not None:
            state.wait()

    def _answer(self, code: int, length: int, more: dict[str, str]) -> None:
        state = self.state
        self.send_response(code)
        headers = {"Content-Length": str(length), "Content-Type": state.kind, **more}
        for name, value in (("ETag", state.tag), ("Last-Modified", state.date)):
            if value:
                headers[name] = value
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


__all__ = ["FileServer"]
