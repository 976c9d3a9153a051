"""A stand-in for pyaxengine: its interface and its traps, with a small ONNX graph where the NPU would be.

Which machine it stands on is said by AXENGINE_STANDIN:

    (unset)     no NPU: the import fails
    AX650       an AX650N board          AX620E      an AX630C board
    AXCL        an AX650N card in a host
    hang        a driver that gives no sign

and how many seconds each run takes by AXENGINE_STANDIN_RUN_S; with AXENGINE_STANDIN_EXIT=crash a process that has opened
a card ends badly.

What it does wrong, it does because pyaxengine does: AXERA-TECH/pyaxengine, axengine/{__init__, _providers, _session,
_base_session, _axe, _axclrt, _utils}.py, and issues 32 and 35 there. It is written from what those do, not out of them.
"""

from axengine._providers import get_all_providers, get_available_providers

if not get_available_providers():
    raise ImportError(f"there is none of {get_all_providers()}")

from axengine._session import InferenceSession, NodeArg, SessionOptions

__all__ = ["InferenceSession", "NodeArg", "SessionOptions", "get_all_providers", "get_available_providers"]
