"""A server on this machine that speaks the chat protocol and answers what a test says, or misbehaves as it says."""

from __future__ import annotations

import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    Script = Iterable[bytes | float | str]

RESET = "reset"
_GIVE_UP_S = 60.0


class FakeCloud:
    """An OpenAI-compatible server on loopback.

    Attributes:
        url: its address, to be given as a policy's endpoint.
        connections: how many times somebody has connected.
        requests: the bodies of the requests so far.
        headers: their headers, names in lower case.

    Example:
        >>> with FakeCloud("A red truck.") as cloud:
        ...     cloud.url.startswith("http://127.0.0.1:"), cloud.connections
        (True, 0)
    """

    def __init__(
        self, answer: str | Callable[[dict[str, Any]], str | Script], *, tls: ssl.SSLContext | None = None
    ) -> None:
        """Say what it answers.

        Args:
            answer: the text, or a function from a request's body to it; or to a script: bytes are sent as they are,
                numbers are seconds of silence, `RESET` breaks the connection off, and the end closes it.
            tls: speak https with this certificate.
        """
        self._answer = answer
        self.connections = 0
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._closing = threading.Event()
        self._server = _server(self._serve, self._meet, tls)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and wait until nobody is served any more."""
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _meet(self) -> None:
        self.connections += 1

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.requests.append(body)
        self.headers.append({name.lower(): value for name, value in handler.headers.items()})
        said = self._answer(body) if callable(self._answer) else self._answer
        handler.close_connection = True
        for part in [completion(said)] if isinstance(said, str) else said:
            if part == RESET:
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            if isinstance(part, bytes):
                handler.wfile.write(part)
            elif self._closing.wait(float(part)):
                return


def completion(text: str, **choice: Any) -> bytes:
    """Give the whole HTTP answer that says a text.

    Args:
        text: what the model says.
        choice: other entries of the choice, such as `finish_reason`.
    """
    said = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", **choice}
    return answer(200, json.dumps({"object": "chat.completion", "model": "fake", "choices": [said]}).encode())


def answer(status: int, body: bytes, kind: str = "application/json", **headers: str) -> bytes:
    """Give the whole HTTP answer with this status and body.

    Args:
        status: the HTTP status.
        body: the body.
        kind: its content type.
        headers: more headers; `_` in a name stands for `-`.
    """
    lines = {"Content-Type": kind, "Content-Length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Status\r\n{head}\r\n".encode() + body


def _server(
    serve: Callable[[BaseHTTPRequestHandler], None], meet: Callable[[], None], tls: ssl.SSLContext | None
) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = _GIVE_UP_S

        def do_POST(self) -> None:
            try:
                serve(self)
            except OSError:
                # Whoever asked has gone: what this server is there to make them do.
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = False

        def get_request(self) -> tuple[socket.socket, Any]:
            found = super().get_request()
            meet()
            return found

        def finish_request(self, request: Any, client_address: Any) -> None:
            try:
                inner = tls.wrap_socket(request, server_side=True) if tls else request
            except OSError:
                # They did not accept the certificate.
                return
            with inner:
                super().finish_request(inner, client_address)

    return Server(("127.0.0.1", 0), Handler)
