"""The `cpu` target: onnxruntime on the processor, with threads that sleep while they wait."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nearsight_npu.errors import InputMismatchError, TargetLostError, UnplaceableError, UnreadableGraphError, one_line
from nearsight_npu.targets.machine import Machine
from nearsight_npu.targets.target import Availability, Port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array

# Builds of onnxruntime that bring the same module under another name.
_DISTRIBUTIONS = ("onnxruntime-openvino", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-silicon")
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
# What onnxruntime wraps around the reason: its own name, a code, and the path once more.
_WRAPPING = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .*? failed:)?", re.DOTALL)
_QUIET = 4  # onnxruntime's "fatal": every error is raised as well, so its own line on stderr would be the second one


class CpuTarget:
    """Runs graphs with onnxruntime's CPU kernels."""

    name = "cpu"
    # FP32 kernels add in another order than numpy does: 1e-5 was seen on the contract's graphs.
    tolerance = 1e-4

    def probe(self) -> Availability:
        """Look for the onnxruntime package."""
        machine = Machine()
        version = machine.installed("onnxruntime", *_DISTRIBUTIONS)
        if version is None:
            return Availability(
                target="cpu",
                available=False,
                reason="the package onnxruntime is not installed",
                remedy="pip install onnxruntime",
            )
        return Availability(
            target="cpu", available=True, reason=f"onnxruntime {version} on {machine.processor().rpartition(' ')[0]}"
        )

    def versions(self) -> dict[str, str]:
        """Name onnxruntime and the processor, whose instructions choose its kernels."""
        machine = Machine()
        version = machine.installed("onnxruntime", *_DISTRIBUTIONS) or "none"
        return {"onnxruntime": version, "processor": machine.processor()}

    def compile(self, path: Path, threads: int | None = None) -> CpuProgram:
        """Make a session of onnxruntime; see `Target.compile`."""
        # Imported here: it takes tens of milliseconds, and looking for targets must not.
        try:
            import onnxruntime
        except ImportError as error:
            raise UnplaceableError(
                f"{path.name} was to run on cpu; onnxruntime is there but cannot be loaded ({one_line(error)}); "
                "pip install --force-reinstall onnxruntime"
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _QUIET
        options.inter_op_num_threads = 1
        if threads is not None:
            options.intra_op_num_threads = threads
        # Spinning threads collapse when something else wants the core (measured: twice as slow on two busy cores).
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except _errors() as error:
            raise _unusable(path, error) from error
        return CpuProgram(session, _ports(session.get_inputs(), path), _ports(session.get_outputs(), path))


class CpuProgram:
    """A session of onnxruntime; it serves several threads at once."""

    __slots__ = ("_session", "inputs", "outputs")

    def __init__(self, session: Any, inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> None:
        self._session = session
        self.inputs = inputs
        self.outputs = outputs

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the graph once; see `Program.run`."""
        try:
            found = self._session.run(list(outputs), dict(arrays))
        except _errors() as error:
            text = one_line(_WRAPPING.sub("", str(error)))
            if any(word in str(error) for word in ("INVALID_ARGUMENT", "mismatch", "must match", "cannot be reshaped")):
                raise InputMismatchError(
                    f"the arrays were accepted, but the graph cannot use them: {text}; "
                    "check their lengths and values against each other"
                ) from error
            raise TargetLostError(f"cpu failed while running: {text}; load the session again") from error
        return dict(zip(outputs, found, strict=True))


def _errors() -> tuple[type[Exception], ...]:
    """Gather what onnxruntime raises: its classes have no common root besides `Exception`, and differ by version."""
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    own = (getattr(native, name) for name in dir(native))
    classes = (item for item in own if isinstance(item, type) and issubclass(item, Exception))
    return (*classes, RuntimeError, ValueError)


def _unusable(path: Path, error: Exception) -> UnplaceableError | UnreadableGraphError:
    """Tell a graph that is no graph from one that this build of onnxruntime lacks an operator for."""
    text = _WRAPPING.sub("", str(error))
    if any(phrase in str(error) for phrase in ("not a registered", "No Op registered", "NOT_IMPLEMENTED")):
        return UnplaceableError(
            f"{path.name} was to run on cpu; this onnxruntime lacks one of its operators ({one_line(text)}); "
            "upgrade onnxruntime, or export the model with standard operators"
        )
    return UnreadableGraphError(
        f"{path.name} was to be loaded; onnxruntime cannot read it as an ONNX graph ({one_line(text)}); "
        "fetch or export it again"
    )


def _ports(nodes: Sequence[Any], path: Path) -> tuple[Port, ...]:
    ports = []
    for node in nodes:
        if node.type not in _DTYPES:
            raise UnplaceableError(
                f"{path.name} has {node.name!r} of type {node.type}; cpu takes and gives arrays of numbers; "
                "export the model without it"
            )
        shape = tuple(length if isinstance(length, (int, str)) else "?" for length in node.shape)
        ports.append(Port(name=node.name, dtype=_DTYPES[node.type], shape=shape))
    return tuple(ports)
