"""What stands before Gradio: who may ask at all, and whose files are whose.

Each browser gets a random cookie. Files can be fetched with the cookie that they were uploaded with or made for.
Requests from other pages, for other hosts (DNS rebinding) and for addresses that the server would fetch are refused.
"""

from __future__ import annotations

import functools
import hmac
import json
import secrets
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from stkit.plugin import parse_json

COOKIE = "stkit_web"
OWNER = b"x-stkit-owner"
"""The header in which Gradio's side sees whose request it is."""
OUTSIDE = "/stkit-files"
"""What the folder of files is called in addresses and messages."""
_MOST = 100_000  # of what is remembered of each kind

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass
class Owners:
    """Whose files are whose, and which cookies were given out. Equal uploads of several people are one file."""

    files: OrderedDict[str, Counter[str]] = field(default_factory=OrderedDict)
    issued: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def issue(self) -> str:
        """A new cookie."""
        cookie = secrets.token_urlsafe(24)
        _remember(self.issued, cookie, None)
        return cookie

    def give(self, path: str | Path, owner: str) -> None:
        """Let `owner` fetch the file `path`."""
        key = str(Path(path).absolute())
        _remember(self.files, key, self.files.get(key, Counter()) + Counter([owner]))

    def forget(self, path: str | Path, owner: str) -> bool:
        """Take back one `give`; whether nobody may fetch the file any more."""
        key = str(Path(path).absolute())
        left = self.files.pop(key, Counter()) - Counter([owner])
        if left:
            self.files[key] = left
        return not left

    def may(self, path: str, owner: str) -> bool:
        """Whether `owner` may fetch it."""
        return owner in self.files.get(str(Path(path).absolute()), ())


@dataclass
class Guard:
    """An ASGI middleware; `hosts` are the names that this server goes by, None is any.

    Gradio names files by their paths. Outside, the folder `inside` goes by the name `OUTSIDE`, and no other is known.
    """

    app: Any
    owners: Owners
    inside: Path
    hosts: Collection[str] | None = None
    token: str | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                return
            await self.app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        cookie = _cookie(headers)
        known = cookie in self.owners.issued
        reason = self._refusal(scope, headers)
        if reason:
            await _answer(send, 403, reason)
            return
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        started = scope["path"].endswith("/startup-events")  # what Gradio asks itself for; it gives nothing away
        if self.token is not None and not known and not started and not self._bearer(headers):
            given = query.pop("token", [""])[0]
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                await _answer(send, 401, "this page needs the address with the token that `stkit web` printed")
                return
            place = scope["path"] + (f"?{urlencode(query, doseq=True)}" if query else "")
            await _answer(send, 303, "", [(b"location", place.encode()), _set_cookie(self.owners.issue())])
            return
        owner = cookie if known else ""
        path = scope["path"]
        if "/file=" in path:
            route, _, name = path.partition("/file=")
            file = f"{self.inside}{name.removeprefix(OUTSIDE)}"
            if not name.startswith(OUTSIDE) or not self.owners.may(file, owner):
                await _answer(send, 403, "this file is not there, or not yours")
                return
            scope["path"] = f"{route}/file={file}"
        new = self.owners.issue() if not known and path == "/" else None
        others = [pair for pair in scope["headers"] if pair[0].lower() != OWNER]
        scope["headers"] = [*others, (OWNER, owner.encode())]
        extra = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
        extra += [(b"x-frame-options", b"SAMEORIGIN"), *([_set_cookie(new)] if new else [])]
        names = Names(self.inside)
        note = functools.partial(self._note_uploads, owner) if path.endswith("/upload") else None
        await self.app(scope, await names.into(scope, receive), names.out_of(send, extra, note))

    def _note_uploads(self, owner: str, body: bytes) -> None:
        try:
            paths = parse_json(body)
        except ValueError:  # a refusal in words
            return
        for path in paths if isinstance(paths, list) else []:
            self.owners.give(str(path), owner)

    def _refusal(self, scope: Message, headers: MutableMapping[str, str]) -> str | None:
        host = headers.get("host", "")
        if self.hosts is not None and urlsplit(f"//{host}").hostname not in self.hosts:
            return "this server does not go by that name"
        origin = headers.get("origin")
        if origin and origin != "null" and scope["method"] != "GET" and urlsplit(origin).netloc != host:
            return "requests from other pages are refused"
        if (origin == "null" or headers.get("sec-fetch-site") == "cross-site") and scope["method"] != "GET":
            return "requests from other pages are refused"
        if "/proxy=" in scope["path"] or "/file=http" in unquote(scope["path"]).lower():
            return "this server fetches nothing"
        return None

    def _bearer(self, headers: MutableMapping[str, str]) -> bool:
        given = headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode())


class Names:
    """Names of files in what comes in and goes out as JSON: of the folder `inside` here, of `OUTSIDE` there."""

    def __init__(self, inside: Path) -> None:
        self._inside = json.dumps(str(inside))[1:-1].encode()
        self._outside = OUTSIDE.encode()

    async def into(self, scope: Message, receive: Receive) -> Receive:
        """What gives the request that `receive` gives, in names of here."""
        if dict(scope["headers"]).get(b"content-type", b"").split(b";")[0] != b"application/json":
            return receive
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return receive
            body += message.get("body", b"")
            more = message.get("more_body", False)
        data = bytes(body).replace(self._outside, self._inside)
        others = [pair for pair in scope["headers"] if pair[0].lower() != b"content-length"]
        scope["headers"] = [*others, (b"content-length", str(len(data)).encode())]
        waiting = [{"type": "http.request", "body": data, "more_body": False}]

        async def give() -> Message:
            return waiting.pop() if waiting else await receive()

        return give

    def out_of(self, send: Send, extra: Collection[tuple[bytes, bytes]], note: Callable[[bytes], None] | None) -> Send:
        """What sends the response in names of there, with `extra` headers; `note` gets it in names of here."""
        start: Message = {}
        body = bytearray()

        async def give(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message, headers=[*message.get("headers", []), *extra])
                if not self._whole(start):
                    await send(start)
                return
            if message["type"] != "http.response.body" or not self._whole(start):
                # Events are sent one by one, so that no name is in two of them.
                if _kind(start) == b"text/event-stream":
                    message = {**message, "body": message.get("body", b"").replace(self._inside, self._outside)}
                await send(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            if note is not None:
                note(bytes(body))
            data = bytes(body).replace(self._inside, self._outside)
            others = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
            await send({**start, "headers": [*others, (b"content-length", str(len(data)).encode())]})
            await send({"type": "http.response.body", "body": data})

        return give

    def _whole(self, start: Message) -> bool:
        return _kind(start) in (b"application/json", b"text/html")


def _kind(start: Message) -> bytes:
    return bytes(dict(start.get("headers", ())).get(b"content-type", b"")).split(b";")[0]


def _remember(kept: OrderedDict[str, Any], key: str, value: Any) -> None:
    kept[key] = value
    while len(kept) > _MOST:
        kept.popitem(last=False)


def _cookie(headers: MutableMapping[str, str]) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _set_cookie(value: str) -> tuple[bytes, bytes]:
    return b"set-cookie", f"{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict".encode()


async def _answer(send: Send, status: int, text: str, headers: Collection[tuple[bytes, bytes]] = ()) -> None:
    kind = (b"content-type", b"text/plain; charset=utf-8")
    await send({"type": "http.response.start", "status": status, "headers": [kind, *headers]})
    await send({"type": "http.response.body", "body": text.encode()})


__all__ = ["COOKIE", "OUTSIDE", "OWNER", "Guard", "Names", "Owners"]
