"""One HTTP request over one connection that ends by its deadline, however slowly the other side talks.

A time limit on each read would let a server hold its caller for hours with a byte a second. Here the moment is fixed
when the call begins, and looking the name up, connecting, TLS, sending and reading all share it. Proxies named in the
environment are not used, and no redirect is followed.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from nearsight_npu.endpoint import Endpoint, is_near_address
from nearsight_npu.errors import RemoteError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from email.message import Message

T = TypeVar("T")

# Long enough for a lost packet to be sent again twice; a dead address shall leave time for another try.
CONNECT_S = 5.0
RETRY_MS = 200.0
# An answer of `max_tokens` tokens is a few kilobytes.
MOST_BYTES = 1 << 20
_PIECE = 1 << 14


class Deadline:
    """A moment by which everything has to be over.

    Args:
        seconds: how far away it is.
    """

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def left_s(self) -> float:
        """Give the seconds that are left.

        Raises:
            TimeoutError: if none are.
        """
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def in_time(work: Callable[[], T], seconds: float) -> T:
    """Wait for work that knows no deadline; past it the work runs on by itself, and what it gives is dropped.

    Args:
        work: what to do, in a thread of its own.
        seconds: how long to wait for it.

    Returns:
        What the work gives; what it raises is raised.

    Raises:
        TimeoutError: if it is not done by then.
    """
    found: Future[T] = Future()

    def run() -> None:
        try:
            found.set_result(work())
        except BaseException as error:
            # Whatever it is belongs to the one who waits; what ends a program ends this thread as well.
            found.set_exception(error)
            if not isinstance(error, Exception):
                raise

    # Not an executor's: the interpreter would wait for that one on its way out.
    threading.Thread(target=run, name="nearsight-in-time", daemon=True).start()
    return found.result(seconds)


class TooLargeError(ValueError):
    """The other side sends more than an answer can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came back.

    Attributes:
        status: the HTTP status.
        headers: the headers.
        body: the body, whole.
    """

    status: int
    headers: Message
    body: bytes


def connected(endpoint: Endpoint, deadline: Deadline) -> socket.socket:
    """Connect, over TLS where the endpoint is secure.

    Raises:
        RemoteError: if there is no way there; nothing has been sent then.
    """
    last: Exception = OSError("its name has no address")
    try:
        addresses = _addresses(endpoint, min(deadline.left_s(), CONNECT_S))
        limit = Deadline(min(deadline.left_s(), CONNECT_S))
        for number, (family, address) in enumerate(addresses):
            share_s = limit.left_s() / (len(addresses) - number)
            try:
                return _opened(endpoint, family, address, share_s, deadline)
            except ssl.SSLError as error:
                raise RemoteError(f"{endpoint.place} was to be asked; TLS fails: {one_line(error, 160)}") from error
            except OSError as error:
                last = error
    except OSError as error:
        last = error
    reason = "no connection in time" if isinstance(last, TimeoutError) else one_line(last, 120)
    raise RemoteError(f"{endpoint.place} cannot be reached: {reason}", retry_ms=RETRY_MS) from last


def _addresses(endpoint: Endpoint, seconds: float) -> list[tuple[int, Any]]:
    """Look a name up; the system's resolver knows no deadline."""

    def look_up() -> list[tuple[int, Any]]:
        try:
            entries = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
        except UnicodeError as error:
            raise OSError(f"no name of a machine ({one_line(error, 60)})") from error
        return [(family, address) for family, _, _, _, address in entries]

    return in_time(look_up, seconds)


def _opened(endpoint: Endpoint, family: int, address: Any, share_s: float, deadline: Deadline) -> socket.socket:
    if not endpoint.secure and not is_near_address(address[0]):
        raise RemoteError(
            f"{endpoint.place} was to be asked over http; its name leads to {address[0]}, outside the local network; "
            "use https"
        )
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(share_s)
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not endpoint.secure:
            return sock
        sock.settimeout(min(deadline.left_s(), CONNECT_S))
        # Closes `sock` itself where the handshake fails.
        return ssl.create_default_context().wrap_socket(sock, server_hostname=endpoint.host)
    except BaseException:
        # Also on Ctrl-C: nobody else holds this socket yet.
        sock.close()
        raise


def post(
    sock: socket.socket, endpoint: Endpoint, headers: Mapping[str, str], body: bytes, deadline: Deadline
) -> Answered:
    """Send one request and read its answer.

    Raises:
        TimeoutError: if the deadline passes first.
        TooLargeError: if the answer is larger than `MOST_BYTES`.
        OSError: if the connection breaks.
        http.client.HTTPException: if what comes back is not HTTP, or less than was announced.
    """
    talk = http.client.HTTPConnection(endpoint.host, endpoint.port)
    wire: Any = _Wire(sock, deadline)
    talk.sock = wire
    # A server may refuse before it has read everything, and say why; what it says is read below.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        talk.request("POST", endpoint.path, body, dict(headers))
    response = talk.getresponse()
    try:
        return Answered(status=response.status, headers=response.headers, body=_body(response))
    finally:
        response.close()


def _body(response: http.client.HTTPResponse) -> bytes:
    if response.length is not None and response.length > MOST_BYTES:
        raise TooLargeError(f"it announces {response.length} bytes, the limit is {MOST_BYTES}")
    body = bytearray()
    while piece := response.read(_PIECE):
        body += piece
        if len(body) > MOST_BYTES:
            raise TooLargeError(f"it sends more than {MOST_BYTES} bytes")
    if response.length:
        raise http.client.IncompleteRead(bytes(body), response.length)
    return bytes(body)


class _Wire:
    """The part of a socket that `http.client` uses, with every wait bounded by the deadline."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._sock.settimeout(self._deadline.left_s())
            rest = rest[self._sock.send(rest[:_PIECE]) :]

    def makefile(self, *_: Any) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._sock, self._deadline))

    def close(self) -> None:
        """Leave it open: whoever connected closes it."""


class _Incoming(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        super().__init__()
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.left_s())
        return self._sock.recv_into(buffer)
