"""What targets that run on onnxruntime share: what it raises, what it says, and where it placed a graph's operators."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from nearsight_npu.errors import InputMismatchError, TargetLostError, one_line
from nearsight_npu.targets.target import Placement

QUIET = 4  # onnxruntime's "fatal": every error is raised as well, so its own line on stderr would be the second one
# What onnxruntime wraps around the reason: its own name, a code, and the path once more.
_WRAPPING = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .*? failed:)?", re.DOTALL)
_MISFITS = ("INVALID_ARGUMENT", "mismatch", "must match", "cannot be reshaped", "Attempting to broadcast", "k argument")


def native_errors() -> tuple[type[Exception], ...]:
    """Gather what onnxruntime raises: its classes have no common root besides `Exception`, and differ by version."""
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    own = (getattr(native, name) for name in dir(native))
    classes = (item for item in own if isinstance(item, type) and issubclass(item, Exception))
    return (*classes, RuntimeError, ValueError)


def told(error: Exception) -> str:
    """Give the reason alone, in one line."""
    return one_line(_WRAPPING.sub("", str(error)))


def failed(error: Exception, target: str) -> InputMismatchError | TargetLostError:
    """Tell arrays that do not fit each other or the graph from a target that failed."""
    if any(word in str(error) for word in _MISFITS):
        return InputMismatchError(
            f"the arrays were accepted, but the graph cannot use them: {told(error)}; "
            "check their lengths and values against each other"
        )
    return TargetLostError(f"{target} failed while running: {told(error)}; load the session again")


def placement(session: Any, own: str) -> Placement:
    """Ask a session which provider took which operators; older versions do not tell.

    Args:
        session: a session that was made with "session.record_ep_graph_assignment_info" at "1".
        own: the target's own provider; what any other one took is outside.
    """
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    if tell is None:
        return Placement()
    placed = [(part.ep_name, node.op_type) for part in tell() for node in part.get_nodes()]
    parts = Counter(provider for provider, _ in placed).most_common()
    outside = sorted({(operator, provider) for provider, operator in placed if provider != own})
    return Placement(parts=tuple(parts), outside=tuple(outside))
