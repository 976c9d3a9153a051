"""Forbids the network to any Python that has this folder on PYTHONPATH: only loopback and local sockets may be reached.

`tests/conftest.py` switches it on for the test run itself, and for every process that a test starts.
"""

from __future__ import annotations

import socket

_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex


class NetworkForbiddenError(RuntimeError):
    """Something tried to reach another machine; no OSError, so that no retry loop swallows it."""


def _check(here: socket.socket, address: object) -> None:
    if here.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    host = str(address[0]) if isinstance(address, tuple) and address else ""
    if host not in {"localhost", "::1"} and not host.startswith("127."):
        raise NetworkForbiddenError(f"the network is forbidden in tests; something wanted {address!r}")


class _Guarded:
    """Stands for the two ways to connect; everything else about a socket stays as it is."""

    def connect(self: socket.socket, address: object) -> None:
        _check(self, address)
        return _connect(self, address)

    def connect_ex(self: socket.socket, address: object) -> int:
        _check(self, address)
        return _connect_ex(self, address)


def forbid() -> None:
    """Switch it on."""
    socket.socket.connect = _Guarded.connect
    socket.socket.connect_ex = _Guarded.connect_ex


forbid()
