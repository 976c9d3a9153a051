"""The delegate: runs model graphs on whatever chip is here, proves their answers first, and says how each came about.

Importing this package loads neither numpy nor a runtime; each name below is fetched when it is first used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nearsight_npu.delegate import Delegate, prove, remembered_proofs
    from nearsight_npu.errors import DelegateError, NearsightDelegateWarning
    from nearsight_npu.golden import Floor, Golden
    from nearsight_npu.policy import Decision, Measured, Policy, Rejected, Rung
    from nearsight_npu.proof import Finding, ProofReport
    from nearsight_npu.quantization import Progress, QuantizationReport, quantize
    from nearsight_npu.session import Session
    from nearsight_npu.targets.probe import probe
    from nearsight_npu.targets.target import Availability, Port, Program, Target
    from nearsight_npu.tuning import Choice, remembered_choices

__all__ = [
    "Availability",
    "Choice",
    "Decision",
    "Delegate",
    "DelegateError",
    "Finding",
    "Floor",
    "Golden",
    "Measured",
    "NearsightDelegateWarning",
    "Policy",
    "Port",
    "Program",
    "Progress",
    "ProofReport",
    "QuantizationReport",
    "Rejected",
    "Rung",
    "Session",
    "Target",
    "probe",
    "prove",
    "quantize",
    "remembered_choices",
    "remembered_proofs",
]

# onnxruntime reports each process, session and error to its maker unless this is set before it is first imported
# (Privacy.md of 1.32, "Disabling Telemetry"; its function of that name comes too late for the first report).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "Availability": "targets.target",
    "Choice": "tuning",
    "Decision": "policy",
    "Delegate": "delegate",
    "DelegateError": "errors",
    "Finding": "proof",
    "Floor": "golden",
    "Golden": "golden",
    "Measured": "policy",
    "NearsightDelegateWarning": "errors",
    "Policy": "policy",
    "Port": "targets.target",
    "Program": "targets.target",
    "Progress": "quantization.progress",
    "ProofReport": "proof",
    "QuantizationReport": "quantization",
    "Rejected": "policy",
    "Rung": "policy",
    "Session": "session",
    "Target": "targets.target",
    "probe": "targets.probe",
    "prove": "delegate",
    "quantize": "quantization",
    "remembered_choices": "tuning",
    "remembered_proofs": "delegate",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
