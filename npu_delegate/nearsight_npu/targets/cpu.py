"""The `cpu` target: onnxruntime on the processor; its threads sleep while they wait, unless spinning is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nearsight_npu.errors import TargetLostError, UnplaceableError, UnreadableGraphError, one_line
from nearsight_npu.footprint import freeing
from nearsight_npu.targets.machine import Machine
from nearsight_npu.targets.sessions import QUIET, failed, native_errors, placement, told
from nearsight_npu.targets.target import Availability, Port, Setup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.targets.target import Placement

# Builds of onnxruntime that bring the same module under another name.
_DISTRIBUTIONS = ("onnxruntime-openvino", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-silicon")
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_OWN = "CPUExecutionProvider"

# It makes integers of a convolution that was left in float between integer ones, with one scale for all its weights.
# Measured with onnxruntime 1.32, nano's picture encoder with three blocks in float: error / spread .37 instead of .19.
# `quantize` writes files in which it finds nothing; this is for those of others.
_MEDDLING = "WeightBiasQuantization"


class CpuTarget:
    """Runs graphs with onnxruntime's CPU kernels."""

    name = "cpu"
    # FP32 kernels add in another order than numpy does: 1e-5 was seen on the contract's graphs.
    tolerance = 1e-4

    def __init__(self, *, fused: bool = True) -> None:
        """Choose how near to the graph to stay.

        Args:
            fused: whether onnxruntime may merge and exchange operators; else each is evaluated as it stands.
        """
        self._fused = fused

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

    def setups(self, processors: int) -> tuple[Setup, ...]:
        """Give all processors, half of them and one, asleep while they wait and (but for one) spinning."""
        counts = sorted({processors, max(processors // 2, 1), 1}, reverse=True)
        asleep = tuple(Setup(threads=count) for count in counts)
        return asleep + tuple(Setup(threads=count, spinning=True) for count in counts if count > 1)

    def compile(self, path: Path, threads: int | None = None) -> CpuProgram:
        """Make a session of onnxruntime whose threads do not spin; see `Target.compile`."""
        return self.compile_as(path, Setup(threads=threads))

    def compile_as(self, path: Path, setup: Setup) -> CpuProgram:
        """Make a session of onnxruntime with so many threads; see `Target.compile`."""
        # Imported here: it takes tens of milliseconds, and looking for targets must not.
        try:
            import onnxruntime
        except ImportError as error:
            raise UnplaceableError(
                f"{path.name} was to run on cpu; onnxruntime is there but cannot be loaded ({one_line(error)}); "
                "pip install --force-reinstall onnxruntime"
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = QUIET
        options.inter_op_num_threads = 1
        # A pattern of memory per input shape takes as much again as the largest run (measured: 89 or 131 MB for eight
        # pictures in the detector) and gains no time (.99 to 1.06 of it without).
        options.enable_mem_pattern = False
        if setup.threads is not None:
            options.intra_op_num_threads = setup.threads
        # Spinning threads collapse when something else wants the core (measured: twice as slow on two busy cores).
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(setup.spinning)))
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if not self._fused:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=[_OWN], disabled_optimizers=[_MEDDLING]
            )
        except native_errors() as error:
            raise _unusable(path, error) from error
        ports = _ports(session.get_inputs(), path), _ports(session.get_outputs(), path)
        return CpuProgram(session, *ports, placement(session, _OWN))


class CpuProgram:
    """A session of onnxruntime; it serves several threads at once."""

    __slots__ = ("_session", "inputs", "outputs", "placement")

    def __init__(self, session: Any, inputs: tuple[Port, ...], outputs: tuple[Port, ...], placement: Placement) -> None:
        self._session = session
        self.inputs = inputs
        self.outputs = outputs
        self.placement = placement

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the graph once; see `Program.run`."""
        # One look, so that `close` from another thread lets this run end.
        session = self._session
        if session is None:
            raise TargetLostError("cpu was to run; this program is closed; load it again")
        try:
            found = session.run(list(outputs), dict(arrays))
        except native_errors() as error:
            raise failed(error, "cpu") from error
        return dict(zip(outputs, found, strict=True))

    def close(self) -> None:
        """Free the graph, whoever still holds this object; runs that have begun still end."""
        with freeing():
            self._session = None


def _unusable(path: Path, error: Exception) -> UnplaceableError | UnreadableGraphError:
    """Tell a graph that is no graph from one that this build of onnxruntime lacks an operator for."""
    if any(phrase in str(error) for phrase in ("not a registered", "No Op registered", "NOT_IMPLEMENTED")):
        return UnplaceableError(
            f"{path.name} was to run on cpu; this onnxruntime lacks one of its operators ({told(error)}); "
            "upgrade onnxruntime, or export the model with standard operators"
        )
    return UnreadableGraphError(
        f"{path.name} was to be loaded; onnxruntime cannot read it as an ONNX graph ({told(error)}); "
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
