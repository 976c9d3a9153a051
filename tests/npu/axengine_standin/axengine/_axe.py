"""The NPU on the board: importing this opens it."""

import logging
import sys
import time

from axengine._memory import Device
from axengine._providers import MACHINE

logger = logging.getLogger("axengine")
if not logger.handlers:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("[%(levelname)s] %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

if MACHINE == "hang":
    time.sleep(3600)
logger.info("Chip type: %s", {"AX620E": "ChipType.MC20E"}.get(MACHINE, "ChipType.MC50"))
logger.info("VNPU type: VNPUType.DISABLED")
logger.info("Engine version: 2.12.0s")


class Session(Device):
    """One handle and one context; its buffers serve every thread that comes."""

    def __init__(self, path_or_bytes, options):
        # Its name is taken from a path, and used for bytes as well.
        if isinstance(path_or_bytes, bytes):
            raise AttributeError("bytes have no name")  # noqa: TRY004  as there
        super().__init__(str(path_or_bytes), {"AX620E": "AX620E"}.get(MACHINE, "AX650"))

    def __del__(self):
        self.unload()
