"""The NPU on a card: importing this opens it."""

import atexit
import os
import threading

from cffi import CData

from axengine._memory import Device

CARDS = 2
all_model_instances = []


def _at_exit():
    print("the card is let go", flush=True)
    os._exit(139)


if os.environ.get("AXENGINE_STANDIN_EXIT") == "crash":
    atexit.register(_at_exit)


class Session(Device):
    """A model on a card; it stays there until somebody says otherwise, since the list above knows it."""

    def __init__(self, path_or_bytes, options):
        self.card = (options or {}).get("device_id", 0)
        if self.card >= CARDS:
            raise RuntimeError(f"there is no card {self.card} among {CARDS}")
        # A path that is no text has no encode.
        path_or_bytes.encode("utf-8")
        super().__init__(path_or_bytes, "AX650")
        self._thread = threading.get_ident()
        for group in self.outputs:
            for port in group:
                port.name = CData(port.name.encode())
        all_model_instances.append(self)

    def run(self, names, feed, shape_group):
        if threading.get_ident() != self._thread:
            raise RuntimeError("this thread has no context on the card")
        return super().run(names, feed, shape_group)

    def unload(self):
        super().unload()
        if self in all_model_instances:
            all_model_instances.remove(self)
