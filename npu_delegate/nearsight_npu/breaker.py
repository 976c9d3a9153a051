"""Leaves a machine alone for a while when it has failed several times in a row; remembered by this process only."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES = 3
REST_S = 30.0


class Breaker:
    """Counts failures in a row, and says when to try again.

    Args:
        failures: how many in a row open it.
        rest_s: seconds that it then stays open; after them one try is let through at a time.
        clock: seconds that only go up.
    """

    def __init__(
        self, failures: int = FAILURES, rest_s: float = REST_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures = failures
        self._rest_s = rest_s
        self._clock = clock
        self._count = 0
        self._open_until = 0.0
        self._lock = threading.Lock()

    def blocked_s(self) -> float:
        """Give the seconds for which nothing is to be tried; 0 lets this one caller through."""
        with self._lock:
            if self._count < self._failures:
                return 0.0
            now = self._clock()
            if now < self._open_until:
                return self._open_until - now
            # This caller tries; the others wait for what it finds.
            self._open_until = now + self._rest_s
            return 0.0

    def note(self, *, succeeded: bool) -> None:
        """Count how a try ended."""
        with self._lock:
            self._count = 0 if succeeded else self._count + 1
            if self._count >= self._failures:
                self._open_until = self._clock() + self._rest_s
