"""The switch that forbids the network works, here and in the processes that a test starts."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

# An address of the block that is reserved for documentation: nobody is there.
ELSEWHERE = "192.0.2.1"


def test_a_connection_to_another_machine_is_refused() -> None:
    with socket.socket() as stranger, pytest.raises(RuntimeError, match="forbidden"):
        stranger.connect((ELSEWHERE, 80))
    with socket.socket() as stranger, pytest.raises(RuntimeError, match="forbidden"):
        stranger.connect_ex((ELSEWHERE, 80))


def test_loopback_is_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()


def test_a_process_that_a_test_starts_is_refused_too() -> None:
    code = f"import socket; socket.create_connection(({ELSEWHERE!r}, 80), timeout=5)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "NetworkForbiddenError" in done.stderr
