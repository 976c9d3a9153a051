"""The `qnn` target: Qualcomm's Hexagon NPU (HTP) through onnxruntime-qnn, or the simulator that it brings for x86-64.

Every operator runs there or the graph is refused: by itself onnxruntime would leave to the processor what the chip
cannot do, and go on naming QNN.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
from collections import OrderedDict
from functools import cache
from typing import TYPE_CHECKING, Any

from nearsight_npu.errors import InputMismatchError, TargetLostError, UnplaceableError, one_line
from nearsight_npu.memory import Memory, file_hash
from nearsight_npu.targets.contexts import Contexts
from nearsight_npu.targets.graphfile import graph_file
from nearsight_npu.targets.machine import Machine
from nearsight_npu.targets.sessions import QUIET, failed, native_errors, placement, told
from nearsight_npu.targets.target import Availability

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.targets.graphfile import GraphFile
    from nearsight_npu.targets.target import Placement

    Prepare = Callable[[Mapping[str, int]], tuple[Any, Placement]]

PROVIDER = "QNNExecutionProvider"
# Generation of the chip -> a model of it: SM8550, SM8650, SM8750, SM8850. Without one, FP32 is not computed as the
# chip does, in half precision, and some operators find no kernel (measured with onnxruntime-qnn 2.7).
# Source: QNN_SOC_MODEL_* in QnnTypes.h of Qualcomm's AI Engine Direct SDK.
GENERATIONS = {"73": "43", "75": "57", "79": "69", "81": "87"}
_USUAL = "73"
# Source: the FastRPC device nodes of Qualcomm's kernels.
_NODES = ("fastrpc-cdsp", "fastrpc-cdsp-secure", "adsprpc-smd")
_REMEDY = "pip install 'nearsight[qnn]'"
# Lengths that axes other than the first are tried at when a graph is loaded; others are compiled when they come.
_TRIED = (1, 64)
# Combinations of lengths that one program keeps ready.
_KEPT = 8
_FALLBACK = "fallback to CPU EP"  # in onnxruntime's words, when it is forbidden
_MOST_SHOWN = 4
_FLOAT32 = 1  # TensorProto.DataType
# Operators that keep their first input's type.
_MOVING = ("Transpose", "Reshape", "Slice", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Split", "Concat", "Gather")


class QnnTarget:
    """Runs graphs on a Hexagon NPU, or as one would on its simulator: right, not quick.

    Attributes:
        name: "qnn", or with a generation of the chip: "qnn:75".
        tolerance: largest difference to the reference; FP32 graphs are computed in half precision.
    """

    tolerance = 9e-3

    def __init__(
        self,
        generation: str = "",
        machine: Machine | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        """Choose the chip.

        Args:
            generation: what to compile for, such as "75" or "v75"; empty for the chip that is here, and for v73 on
                the simulator.
            machine: the machine to look at; None for this one.
            cache_dir: where compiled graphs are kept; None is the user's cache folder.

        Raises:
            UnplaceableError: if there is no such generation.
        """
        number = generation.lower().removeprefix("v")
        if number and number not in GENERATIONS:
            raise UnplaceableError(
                f"target 'qnn:{generation}' was asked for; there are the generations {', '.join(GENERATIONS)}; "
                "choose one of them, as in 'qnn:73'"
            )
        self.name = f"qnn:{number}" if number else "qnn"
        self._machine = machine or Machine()
        self._number = number or ("" if self._node else _USUAL)
        self._memory = Memory(cache_dir)
        self._contexts = Contexts("qnn", cache_dir)

    @property
    def _node(self) -> str | None:
        return self._machine.device(*_NODES)

    @property
    def deadline_s(self) -> float:
        """Seconds after which a call is given up; the simulator takes seconds where the chip takes milliseconds."""
        return 60.0 if self._node else 600.0

    def probe(self) -> Availability:
        """Look for the onnxruntime-qnn package, and for the node of a DSP."""
        version, node = self._machine.installed("onnxruntime_qnn", "onnxruntime-qnn"), self._node
        if version is None:
            seen = f"found a Qualcomm DSP at {node}" if node else "no Qualcomm DSP was found"
            reason = f"the package onnxruntime-qnn is not installed, {seen}"
            return Availability(target=self.name, available=False, reason=reason, remedy=_REMEDY)
        if node:
            reason = f"onnxruntime-qnn {version} on a Qualcomm DSP at {node}"
            return Availability(target=self.name, available=True, reason=reason)
        if sys.platform == "linux" and platform.machine() == "x86_64":
            reason = f"onnxruntime-qnn {version} on its simulator of a Hexagon v{self._number}: right, but not quick"
            return Availability(target=self.name, available=True, reason=reason, simulator=True)
        return Availability(
            target=self.name,
            available=False,
            reason=f"onnxruntime-qnn {version} is installed, no Qualcomm DSP was found, and its simulator needs x86-64",
            remedy="use target='cpu'",
        )

    def versions(self) -> dict[str, str]:
        """Name onnxruntime, onnxruntime-qnn and the chip."""
        here = f"the chip at {self._node}" if self._node else "simulated"
        return {
            "onnxruntime": self._machine.installed("onnxruntime") or "none",
            "onnxruntime-qnn": self._machine.installed("onnxruntime_qnn", "onnxruntime-qnn") or "none",
            "chip": f"Hexagon v{self._number}, {here}" if self._number else here,
        }

    def compile(self, path: Path, threads: int | None = None) -> QnnProgram:  # noqa: ARG002  the chip decides
        """Compile a graph for the chip, or load it as it was compiled before; see `Target.compile`.

        The chip knows no free axes: each combination of lengths is compiled when it first comes. To know at once
        whether the graph can run, it is compiled for lengths of 1 here.
        """
        graph = graph_file(path, self.name)
        if "?" in graph.free_axes:
            raise UnplaceableError(
                f"{path.name} was to run on {self.name}, which compiles for fixed lengths; an axis of its inputs has "
                "neither a length nor a name; export the model with names for its free axes"
            )
        self._refuse_casts(path, graph)
        batch = {port.shape[0] for port in graph.inputs if port.shape}
        others = [axis for axis in graph.free_axes if axis not in batch]
        digest = file_hash(path, self._memory)
        program = QnnProgram(lambda lengths: self._prepared(path, digest, graph, lengths), graph, self.name)
        for length in _TRIED if others else _TRIED[:1]:
            try:
                program.ready(dict.fromkeys(graph.free_axes, 1) | dict.fromkeys(others, length))
            except UnplaceableError as error:
                # Operators that the chip lacks, it lacks at any length.
                if _FALLBACK in str(error.__cause__) or not others or length == _TRIED[-1]:
                    raise
            else:
                break
        return program

    def _prepared(self, path: Path, digest: str, graph: GraphFile, lengths: Mapping[str, int]) -> tuple[Any, Placement]:
        """Give a session for these lengths, and where its operators are."""
        if file_hash(path, self._memory) != digest:
            raise UnplaceableError(f"{path.name} was to be compiled for {lengths}; it has changed; load it again")
        key = self._key(path, digest, graph, lengths)
        device = _device(path, simulated=self._node is None)
        kept = self._contexts.read(key)
        if kept is not None:
            try:
                session = self._session(kept[0], {}, device)
            except native_errors():
                # Kept by a driver or a library that differs in what the key cannot know: compiled again.
                kept = None
            else:
                if not placement(session, PROVIDER).outside:
                    return session, kept[1]
        with self._contexts.room() as place:
            try:
                session = self._session(str(path), lengths, device, place)
            except native_errors() as error:
                raise self._refusal(path, lengths, device, error) from error
            found = placement(session, PROVIDER)
            self._refuse_outside(path, found)
            self._contexts.keep(key, place, found)
        return session, found

    def _key(self, path: Path, digest: str, graph: GraphFile, lengths: Mapping[str, int]) -> str:
        beside = {name: file_hash(path.parent / name, self._memory) for name in graph.beside}
        model = {"model": digest, "beside": beside, "lengths": dict(lengths)}
        return json.dumps(model | self.versions() | self._options(), sort_keys=True)

    def _options(self) -> dict[str, str]:
        chip = {"htp_arch": self._number, "soc_model": GENERATIONS[self._number]} if self._number else {}
        # By default the first and the last conversion of a quantized graph would be left to the processor.
        return {"backend_type": "htp", "offload_graph_io_quantization": "0", **chip}

    def _session(
        self,
        source: str | bytes,
        lengths: Mapping[str, int],
        device: Any,
        context: Path | None = None,
        *,
        fallback: bool = False,
    ) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = QUIET
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if not fallback:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if context is not None:
            options.add_session_config_entry("ep.context_enable", "1")
            options.add_session_config_entry("ep.context_embed_mode", "1")
            options.add_session_config_entry("ep.context_file_path", str(context))
        for axis, length in lengths.items():
            options.add_free_dimension_override_by_name(axis, length)
        options.add_provider_for_devices([device], self._options())
        # By default a run that fails on the chip is repeated on the processor, and so is every one after it.
        return onnxruntime.InferenceSession(source, options, enable_fallback=0)

    def _refusal(self, path: Path, lengths: Mapping[str, int], device: Any, error: Exception) -> UnplaceableError:
        """Say which operators the chip does not take, by looking at where they go when they may go elsewhere."""
        try:
            if _FALLBACK in str(error):
                session = self._session(str(path), lengths, device, fallback=True)
                self._refuse_outside(path, placement(session, PROVIDER))
        except UnplaceableError as refusal:
            return refusal
        except native_errors() as again:
            error = again
        return UnplaceableError(
            f"{path.name} was to run on {self.name}; it cannot be compiled there ({told(error)}); use target='cpu', or "
            "export the model with standard operators and fixed lengths"
        )

    def _refuse_casts(self, path: Path, graph: GraphFile) -> None:
        """Refuse a Cast of uint8 to float32, of which QNN's compiler makes 0 and 1 (measured with QNN 2.51)."""
        pixels = {port.name for port in graph.inputs if port.dtype == "uint8"}
        for operator in graph.operators:
            if pixels.isdisjoint(operator.inputs[:1]):
                continue
            if operator.kind == "Cast" and operator.integers.get("to") == _FLOAT32:
                raise UnplaceableError(
                    f"{path.name} was to run on {self.name}; its {operator} makes uint8 into float32, of which the "
                    "chip's compiler makes 0 and 1; export it with DequantizeLinear in place of Cast, or use "
                    "target='cpu'"
                )
            if operator.kind in _MOVING:
                pixels.update(operator.outputs)

    def _refuse_outside(self, path: Path, found: Placement) -> None:
        if found.parts and not found.outside:
            return
        why, remedy = "onnxruntime does not tell where its operators run", "pip install --upgrade onnxruntime"
        if found.outside:
            names = [f"{operator} ({place})" for operator, place in found.outside[:_MOST_SHOWN]]
            more = f" and {len(found.outside) - _MOST_SHOWN} more" if len(found.outside) > _MOST_SHOWN else ""
            why, remedy = f"{', '.join(names)}{more} would run elsewhere", "quantize it for this target"
        raise UnplaceableError(
            f"{path.name} was to run on {self.name} and nowhere else; {why}; {remedy}, or use target='cpu'"
        )


class QnnProgram:
    """A graph on the chip, compiled for each combination of lengths that came; one run at a time, as the chip does."""

    __slots__ = ("_lock", "_prepare", "_sessions", "_target", "inputs", "outputs", "placement")

    def __init__(self, prepare: Prepare, graph: GraphFile, target: str) -> None:
        self._prepare = prepare
        self._target = target
        self._sessions: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._lock = threading.Lock()
        self.inputs = graph.inputs
        self.outputs = graph.outputs

    def ready(self, lengths: Mapping[str, int]) -> Any:
        """Give the session for these lengths of the free axes, the most recent ones kept.

        Raises:
            UnplaceableError: if the graph cannot run on the chip with them.
        """
        key = tuple(lengths.values())
        session = self._sessions.pop(key, None)
        if session is None:
            session, self.placement = self._prepare(lengths)
        self._sessions[key] = session
        if len(self._sessions) > _KEPT:
            self._sessions.popitem(last=False)
        return session

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the graph once; see `Program.run`."""
        lengths = {
            axis: length
            for port in self.inputs
            for axis, length in zip(port.shape, arrays[port.name].shape, strict=True)
            if isinstance(axis, str)
        }
        if 0 in lengths.values():
            said = ", ".join(f"{axis} = {length}" for axis, length in lengths.items())
            raise InputMismatchError(
                f"arrays with {said} were given; {self._target} needs lengths from 1 on; give it samples"
            )
        with self._lock:
            try:
                found = self.ready(lengths).run(list(outputs), dict(arrays))
            except UnplaceableError as error:
                raise TargetLostError(f"{self._target} was to run with lengths of {lengths}; {error}") from error
            except native_errors() as error:
                raise failed(error, self._target) from error
        return dict(zip(outputs, found, strict=True))


_first = threading.Lock()


def _device(path: Path, *, simulated: bool) -> Any:
    """Give onnxruntime's handle of the chip; the provider is registered once in a process."""
    try:
        with _first:
            return _registered(simulated)
    except (ImportError, AttributeError) as error:
        raise UnplaceableError(
            f"{path.name} was to run on qnn; onnxruntime cannot load its provider ({one_line(error)}); "
            f"pip install --upgrade onnxruntime, {_REMEDY}"
        ) from error


@cache
def _registered(simulated: bool) -> Any:
    import onnxruntime
    import onnxruntime_qnn

    if simulated:
        _load_quietly(onnxruntime_qnn.get_qnn_htp_path())
    known = {device.ep_name for device in onnxruntime.get_ep_devices()}
    if PROVIDER not in known:
        # A second time would raise.
        try:
            onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
        except native_errors() as error:
            raise ImportError(told(error)) from error
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
    kinds = ("CPU",) if simulated else ("NPU", "CPU")
    ordered = [device for kind in kinds for device in devices if device.device.type.name == kind]
    if not ordered:
        raise ImportError(f"{PROVIDER} offers no device of type {' or '.join(kinds)}")
    return ordered[0]


def _load_quietly(library: str) -> None:
    """Load the simulator while nothing reaches standard output, which belongs to the caller: it prints when loaded."""
    import ctypes

    c = ctypes.CDLL(None)
    c.fflush(None)
    try:
        output = os.dup(1)
    except OSError:
        # There is no standard output to keep clean.
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        ctypes.CDLL(library)
        c.fflush(None)
    finally:
        os.dup2(output, 1)
        os.close(output)
