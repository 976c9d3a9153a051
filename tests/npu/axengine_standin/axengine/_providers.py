"""Which of the two runtimes is there."""

import os

CHIP, CARD = "AxEngineExecutionProvider", "AXCLRTExecutionProvider"
MACHINE = os.environ.get("AXENGINE_STANDIN", "")


def get_all_providers():
    return [CHIP, CARD]


def get_available_providers():
    return {"": [], "AXCL": [CARD]}.get(MACHINE, [CHIP])
