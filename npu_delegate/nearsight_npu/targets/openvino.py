"""The `openvino` target: Intel processors, NPUs and GPUs through OpenVINO, in the precision that the file states."""

from __future__ import annotations

import contextlib
import io
import json
import platform
import re
import sys
import threading
from functools import cache
from queue import LifoQueue
from typing import TYPE_CHECKING, Any

from nearsight_npu.errors import InputMismatchError, TargetLostError, UnplaceableError, one_line
from nearsight_npu.memory import Memory, file_hash
from nearsight_npu.targets.contexts import Contexts
from nearsight_npu.targets.graphfile import graph_file
from nearsight_npu.targets.machine import Machine
from nearsight_npu.targets.target import Availability, Placement, Port, Setup

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.targets.graphfile import GraphFile

# The best first; each may lack an operator that the next one has.
_DEVICES = ("NPU", "GPU", "CPU")
_INTEL = "0x8086"  # PCI vendor
_REMEDY = "pip install 'nearsight[openvino]'"
_DEADLINE_S = 120.0  # of an accelerator: its driver may hang, and compiling takes it up to a minute
# Where in its own source a check failed; the reason stands after it.
_WRAPPING = re.compile(r"Exception from \S+:\d+:|Check '.*?' failed at \S+:\d+:|FrontEnd API failed with \w+:|Summary:")
_UNKNOWN = re.compile(r"No conversion rule found for operations: (.*)")
_MISFITS = ("shape", "dimension", "broadcast", "must match", "out of bound", "while validating", "multiplying dim")
# Larger files are compiled each time: keeping them costs what it saves (measured: 352 MB, 3.4 s against 2.6 s).
_LARGEST_KEPT = 128 << 20
_IN_8_BITS = 4  # MatMulNBits's accuracy_level
# What stands in a compiled graph beside its operators.
_NO_OPERATORS = ("Input", "Output", "Const")


class OpenVinoTarget:
    """Runs graphs with OpenVINO, on the best device that is here or on the one that its name says.

    Attributes:
        name: "openvino", or with a device: "openvino:cpu", "openvino:gpu", "openvino:npu".
    """

    def __init__(
        self,
        device: str = "",
        machine: Machine | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        """Choose the devices.

        Args:
            device: "cpu", "gpu" or "npu"; empty for the best one here that can run the graph.
            machine: the machine to look at; None for this one.
            cache_dir: where compiled graphs are kept; None is the user's cache folder.

        Raises:
            UnplaceableError: if there is no such device.
        """
        if device and device.upper() not in _DEVICES:
            raise UnplaceableError(
                f"target 'openvino:{device}' was asked for; OpenVINO has the devices {', '.join(_DEVICES).lower()}; "
                "choose one of them, as in 'openvino:cpu'"
            )
        self.name = f"openvino:{device.lower()}" if device else "openvino"
        self._machine = machine or Machine()
        self._wanted = (device.upper(),) if device else _DEVICES
        self._memory = Memory(cache_dir)
        self._contexts = Contexts("openvino", cache_dir)

    @property
    def tolerance(self) -> float:
        """Largest difference to the reference: in FP32 on the processor; accelerators compute in half precision."""
        return 1e-4 if self._devices() == ("CPU",) else 5e-3

    @property
    def deadline_s(self) -> float | None:
        """Seconds after which a call is given up; None on the processor alone, which does not hang."""
        return None if self._devices() == ("CPU",) else _DEADLINE_S

    def probe(self) -> Availability:
        """Look for the openvino package, and for the nodes of an NPU and a GPU."""
        version = self._machine.installed("openvino")
        found = {"NPU": self._machine.accelerator(_INTEL), "GPU": _graphics(self._machine)}
        devices = [f"an Intel {kind} at {node}" for kind, node in found.items() if node and kind in self._wanted]
        if "CPU" in self._wanted:
            devices.append("the processor")
        if version is not None and devices:
            reason = f"openvino {version} on {' and '.join(devices)}"
            return Availability(target=self.name, available=True, reason=reason)
        missing = "the package openvino is not installed" if version is None else f"openvino {version} is installed"
        seen = f"found {' and '.join(devices)}" if devices else f"no Intel {self._wanted[0]} was found"
        remedy = _REMEDY if version is None else "install its driver, or use target='openvino:cpu'"
        return Availability(target=self.name, available=False, reason=f"{missing}, {seen}", remedy=remedy)

    def versions(self) -> dict[str, str]:
        """Name OpenVINO, its devices and the processor, and with an accelerator the kernel that drives it."""
        devices = self._devices()
        return {
            "openvino": self._machine.installed("openvino") or "none",
            "devices": ", ".join(devices),
            "processor": self._machine.processor(),
            **({} if devices == ("CPU",) else {"kernel": platform.release()}),
        }

    def setups(self, processors: int) -> tuple[Setup, ...]:
        """Give all processors, half of them and one; accelerators are left to themselves."""
        counts = sorted({processors, max(processors // 2, 1), 1}, reverse=True)
        return tuple(Setup(threads=count) for count in counts) if "CPU" in self._devices() else (Setup(),)

    def compile(self, path: Path, threads: int | None = None) -> OpenVinoProgram:
        """Make a graph ready on the first device that can run it; see `Target.compile`."""
        return self.compile_as(path, Setup(threads=threads))

    def compile_as(self, path: Path, setup: Setup) -> OpenVinoProgram:
        """Make a graph ready with so many threads; see `Target.compile`. Its threads never spin."""
        graph = graph_file(path, self.name)
        core = _core(path)
        devices = [device for device in self._wanted if device in _kinds(core)]
        if not devices:
            raise UnplaceableError(
                f"{path.name} was to run on {self.name}; here OpenVINO finds "
                f"{', '.join(core.available_devices) or 'no device'}; install the driver, or use target='openvino:cpu'"
            )
        refused = []
        for device in devices:
            try:
                return OpenVinoProgram(*self._compiled(core, path, graph, device, setup), graph)
            except UnplaceableError as error:
                refused.append(error)
            except RuntimeError as error:
                refused.append(self._unplaceable(path, error))
        raise refused[-1]

    def _compiled(self, core: Any, path: Path, graph: GraphFile, device: str, setup: Setup) -> tuple[Any, Placement]:
        """Compile a file, or load it as it was compiled before: of quantized graphs that takes a fifth of the time."""
        properties = _properties(device, graph)
        key = self._key(path, graph, device, properties)
        if device == "CPU" and setup.threads is not None:
            # Not in the key: what is kept is the same for any number.
            properties["INFERENCE_NUM_THREADS"] = setup.threads
        kept = self._contexts.read(key)
        # What a driver no longer takes is compiled again.
        with contextlib.suppress(RuntimeError):
            if kept is not None:
                return core.import_model(io.BytesIO(kept[0]), device, properties), kept[1]
        model = core.read_model(str(path))
        if device == "CPU":
            _refuse_16_bits(model, path, self.name)
        compiled = core.compile_model(model, device, properties)
        placement = Placement(parts=((f"OpenVINO {device}", _operators(compiled, graph)),))
        if sum(file.stat().st_size for file in (path, *(path.parent / name for name in graph.beside))) <= _LARGEST_KEPT:
            self._keep(key, compiled, placement)
        return compiled, placement

    def _keep(self, key: str, compiled: Any, placement: Placement) -> None:
        with self._contexts.room() as place:
            if place is None:
                return
            # A full disk, or a device that does not export, means compiling again next time.
            with contextlib.suppress(OSError, RuntimeError):
                place.write_bytes(compiled.export_model().getbuffer())
                self._contexts.keep(key, place, placement)

    def _key(self, path: Path, graph: GraphFile, device: str, properties: Mapping[str, Any]) -> str:
        files = {name: file_hash(path.parent / name, self._memory) for name in graph.beside}
        model = {"model": file_hash(path, self._memory), "beside": files, "device": device, "properties": properties}
        return json.dumps(model | self.versions(), sort_keys=True)

    def _devices(self) -> tuple[str, ...]:
        here = {"NPU": self._machine.accelerator(_INTEL), "GPU": _graphics(self._machine), "CPU": "processor"}
        return tuple(device for device in self._wanted if here[device])

    def _unplaceable(self, path: Path, error: Exception) -> UnplaceableError:
        unknown = _UNKNOWN.search(str(error))
        text = f"it lacks {unknown[1]}" if unknown else one_line(_WRAPPING.sub("", str(error)))
        return UnplaceableError(
            f"{path.name} was to run on {self.name}; OpenVINO cannot compile it ({text}); use target='cpu', or export "
            "the model with standard operators"
        )


class OpenVinoProgram:
    """A compiled model; requests, which are for one thread at a time, are lent to the threads that run it."""

    __slots__ = ("_compiled", "_requests", "inputs", "outputs", "placement")

    def __init__(self, compiled: Any, placement: Placement, graph: GraphFile) -> None:
        self._compiled = compiled
        self.inputs = graph.inputs
        self.outputs = tuple(_told(port, compiled) for port in graph.outputs)
        self.placement = placement
        # More would wait for each other inside, each with its own memory.
        self._requests: LifoQueue[Any] = LifoQueue()
        for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")):
            self._requests.put(compiled.create_infer_request())

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the graph once; see `Program.run`."""
        import numpy as np

        request = self._requests.get()
        try:
            # Shared both ways: inputs are read in place, and only the outputs that are wanted are copied.
            given = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
            found = request.infer(given, share_inputs=True, share_outputs=True)
            return {name: np.array(found[self._compiled.output(name)]) for name in outputs}
        except RuntimeError as error:
            request = self._compiled.create_infer_request()
            raise _failed(error) from error
        finally:
            self._requests.put(request)


@cache
def _library() -> Any:
    """Import OpenVINO without the part that reports every import to its maker's servers.

    Source: openvino/tools/ovc/__init__.py of 2026.4.1 sends an event unless openvino_telemetry cannot be imported.
    """
    reporter = "openvino_telemetry"
    held = reporter in sys.modules
    if not held:
        sys.modules[reporter] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if not held:
            del sys.modules[reporter]
    return openvino


_first = threading.Lock()


@cache
def _new_core() -> Any:
    return _library().Core()


def _core(path: Path) -> Any:
    """Give the process's one `Core`."""
    try:
        with _first:
            return _new_core()
    except (ImportError, RuntimeError) as error:
        raise UnplaceableError(
            f"{path.name} was to run on openvino; the package cannot be loaded ({one_line(error)}); {_REMEDY}"
        ) from error


def _kinds(core: Any) -> set[str]:
    """Give the kinds of device that OpenVINO finds: "GPU.0" and "GPU.1" are both GPUs."""
    return {device.partition(".")[0] for device in core.available_devices}


def _properties(device: str, graph: GraphFile) -> dict[str, Any]:
    """Say how a device is to run: quick answers, one after another, and on a processor in the precision of the file."""
    properties: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if device == "CPU":
        # By default a processor with AMX or AVX512-BF16 computes FP32 graphs in bf16.
        properties["INFERENCE_PRECISION_HINT"] = "f32"
        # Pinned threads could not make way for anything else that wants their core.
        properties["ENABLE_CPU_PINNING"] = False
        # By default activations become 8 bits before weights of 4 or 8; only some files say that this is meant.
        properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 32 if _meant_in_8_bits(graph) else 0
    return properties


def _meant_in_8_bits(graph: GraphFile) -> bool:
    products = [operator for operator in graph.operators if operator.kind == "MatMulNBits"]
    return bool(products) and all(one.integers.get("accuracy_level") == _IN_8_BITS for one in products)


def _refuse_16_bits(model: Any, path: Path, target: str) -> None:
    """Refuse quantizers of 16 bits: OpenVINO 2026.4.1 takes them out, and their clipping with them.

    Measured on the nano picture encoder with UINT16 activations: correlation with the right answers .19.
    """
    for operator in model.get_ops():
        if operator.get_type_name() == "FakeQuantize" and operator.get_attributes()["levels"] > 256:
            raise UnplaceableError(
                f"{path.name} was to run on {target}; it has activations of 16 bits, whose quantizers OpenVINO leaves "
                "out on a processor, so that its numbers would be wrong; use target='cpu', or activations of 8 bits"
            )


def _told(port: Port, compiled: Any) -> Port:
    """Give an output as the file declares it, or as OpenVINO derives it where the file does not say its shape."""
    if port.shape:
        return port
    shape = compiled.output(port.name).get_partial_shape()
    lengths = () if shape.rank.is_dynamic else tuple(axis.get_length() if axis.is_static else "?" for axis in shape)
    return Port(name=port.name, dtype=port.dtype, shape=lengths)


def _operators(compiled: Any, graph: GraphFile) -> int:
    """Count the operators that run; some devices do not show what they made of the graph."""
    try:
        operators = compiled.get_runtime_model().get_ops()
    except RuntimeError:
        return len(graph.operators)
    kinds = [info["layerType"].value for one in operators if "layerType" in (info := one.get_rt_info())]
    return sum(kind not in _NO_OPERATORS for kind in kinds)


def _failed(error: RuntimeError) -> InputMismatchError | TargetLostError:
    text = one_line(_WRAPPING.sub("", str(error)))
    if any(word in text.lower() for word in _MISFITS):
        return InputMismatchError(
            f"the arrays were accepted, but the graph cannot use them: {text}; check their lengths and values against "
            "each other"
        )
    return TargetLostError(f"openvino failed while running: {text}; load the session again")


def _graphics(machine: Machine) -> str | None:
    """Give the node of an Intel GPU, or None."""
    for entry in sorted((machine.root / "sys/class/drm").glob("renderD*")):
        vendor = entry / "device/vendor"
        if vendor.is_file() and vendor.read_text(encoding="utf-8").strip() == _INTEL:
            return f"/dev/dri/{entry.name}"
    return None
