"""What a watch knows after each frame, and its file beside the events: this is what a stopped watch goes on from."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

import nearsight as ns
from nearsight_apps.smart_city.journal import durable, state_path
from nearsight_apps.smart_city.lines import Counter
from nearsight_apps.smart_city.tracking import Tracker

if TYPE_CHECKING:
    from pathlib import Path

    from nearsight_apps.smart_city.config import Config
    from nearsight_apps.smart_city.events import Event

# Frames after which the state is kept, if no event comes before.
KEEP_EVERY = 25
_VERSION = 2


def begun(out: Path) -> bool:
    """Tell whether a watch has come past its first frame, or has left events."""
    if out.exists() and out.stat().st_size:
        return True
    return state_path(out).exists() and _read(state_path(out))["frame"] >= 0


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if state["version"] != _VERSION:
            raise ns.InputError(f"{path} was written by another version; begin anew with --fresh")
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ns.InputError):
            raise
        raise ns.InputError(f"{path} is damaged ({error}); begin anew with --fresh") from error
    return state


class State:
    """Tracks, sides of lines, and the last frame that is done.

    Attributes:
        path: of the file.
        tracker: follows the detections.
        counters: one for each line.
        run: which watch this is, from its first frame to its last.
        done: index of the last frame that is done; -1 before the first.
        indexed: how many events the gallery holds for certain.
    """

    def __init__(self, config: Config, sure: float) -> None:
        self.path = state_path(config.out)
        self.tracker = Tracker(sure=sure)
        self.counters = [Counter(line=line) for line in config.lines]
        self.run = secrets.token_hex(4)
        self.done = -1
        self.indexed = 0
        self._essence = config.essence()
        self._config_path, self._out = config.path, config.out
        self._kept_at = -1

    def keep(self, *, now: bool = True) -> None:
        """Write the file, durably and whole; unless `now`, only when enough frames have passed."""
        if not now and self.done - self._kept_at < KEEP_EVERY:
            return
        state = {
            "version": _VERSION,
            "config": self._essence,
            "run": self.run,
            "frame": self.done,
            "indexed": self.indexed,
            "tracker": self.tracker.state(),
            "counters": [counter.state() for counter in self.counters],
        }
        durable(self.path, json.dumps(state, ensure_ascii=False).encode())
        self._kept_at = self.done

    def load(self, recorded: list[Event]) -> None:
        """Go on from the file, if there is one.

        Args:
            recorded: the events there are; without the file, looking at their frames again makes them again.

        Raises:
            InputError: when the configuration is another one than then, or the file is damaged.
        """
        if recorded:
            self.run = recorded[-1].run or self.run
        if not self.path.exists():
            return
        state = _read(self.path)
        changed = [key for key, value in self._essence.items() if state["config"].get(key) != value]
        if changed and not begun(self._out):
            return
        if changed:
            raise ns.InputError(
                f"{self._config_path} is not as it was when these events were made (changed: {', '.join(changed)}); "
                "begin anew with --fresh, or name another file in [events] out"
            )
        self.tracker.restore(state["tracker"])
        for counter, values in zip(self.counters, state["counters"], strict=True):
            counter.restore(values)
        self.done = self._kept_at = state["frame"]
        self.run, self.indexed = state["run"], state["indexed"]
