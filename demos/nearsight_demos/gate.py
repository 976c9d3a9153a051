"""Stands before the web server: lets through what the pages need, and keeps files and other hosts out of reach.

Gradio serves files by path, fetches addresses that a request names, and has many routes that this demo does not use.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from pathlib import Path

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Asgi = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

FILE = "/gradio_api/file="
UPLOAD = "/gradio_api/upload"
PAGES = re.compile(
    r"/(en|zh)?/?|/(assets|static)/.+|/(config|theme\.css|favicon\.ico|manifest\.json)/?"
    r"|/gradio_api/(queue/(join|data)|run/predict|upload|upload_progress|heartbeat/\w+|startup-events|cancel|reset|info|app_id)/?"
)
LONGEST_REQUEST = 1_000_000
# Nothing is loaded from, sent to, or shown inside another site.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)


class Gate:
    """ASGI middleware.

    Args:
        app: what stands behind it.
        pages: the only folder whose files are served.
        hosts: names under which this server may be called; empty for any. A web page elsewhere that points its own
            name at this machine is so kept out.
    """

    def __init__(self, app: Asgi, *, pages: Path, hosts: frozenset[str]) -> None:
        self._app, self._pages, self._hosts = app, os.path.realpath(pages), hosts

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer 403, or hand on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        refused = scope["type"] != "http" or not self.admits(scope["path"], host)
        if not refused and scope["method"] == "POST" and scope["path"].rstrip("/") != UPLOAD:
            body = await _whole(receive)
            refused = body is None or not self.names_only_own_files(body)
            receive = _again(body or b"", receive)
        await (_refuse(send) if refused else self._app(scope, receive, _guarded(send)))

    def admits(self, path: str, host: str) -> bool:
        """Tell whether a path may be asked for under a host's name."""
        name = re.sub(r":\d+$", "", host).strip("[]").lower()
        if self._hosts and name not in self._hosts:
            return False
        if path.startswith(FILE):
            return self._is_own(unquote(path[len(FILE) :]))
        return PAGES.fullmatch(path) is not None

    def names_only_own_files(self, body: bytes) -> bool:
        """Tell whether every file that a request names lies in the served folder; an address does not."""
        try:
            return all(self._is_own(path) for path in _paths(json.loads(body)))
        except ValueError:
            return False

    def _is_own(self, path: str) -> bool:
        if "\0" in path or not os.path.isabs(path):
            return False
        return os.path.realpath(path).startswith(self._pages + os.sep)


def _paths(value: Any) -> list[str]:
    """Gather what a request of Gradio's client names as files, however deep."""
    if isinstance(value, dict):
        own = [value["path"]] if isinstance(value.get("path"), str) else []
        return own + [path for part in value.values() for path in _paths(part)]
    return [path for part in value for path in _paths(part)] if isinstance(value, list) else []


async def _whole(receive: Receive) -> bytes | None:
    """Read a request's body; None where it is longer than any of ours."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > LONGEST_REQUEST:
            return None
        if not message.get("more_body"):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read already to whoever reads next."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _guarded(send: Send) -> Send:
    async def add_policy(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), (b"content-security-policy", POLICY.encode())]
            message = {**message, "headers": [*headers, (b"referrer-policy", b"no-referrer")]}
        await send(message)

    return add_policy


async def _refuse(send: Send) -> None:
    start = {"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]}
    await send(start)
    await send({"type": "http.response.body", "body": b"not served here"})
