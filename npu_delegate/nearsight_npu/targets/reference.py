"""The `reference` target: each operator in plain numpy, slow and exact; it defines what a graph means."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from nearsight_npu.errors import InputMismatchError, TargetLostError, UnplaceableError, UnreadableGraphError, one_line
from nearsight_npu.targets.machine import Machine
from nearsight_npu.targets.target import Availability, Placement, Port

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array

_REMEDY = "pip install 'nearsight[reference]'"


class ReferenceTarget:
    """Runs graphs with onnx's own evaluator, one run at a time."""

    name = "reference"
    tolerance = 0.0

    def probe(self) -> Availability:
        """Look for the onnx package."""
        version = Machine().installed("onnx")
        if version is None:
            return Availability(
                target="reference", available=False, reason="the package onnx is not installed", remedy=_REMEDY
            )
        return Availability(target="reference", available=True, reason=f"onnx {version}, operator by operator in numpy")

    def versions(self) -> dict[str, str]:
        """Name onnx and numpy."""
        machine = Machine()
        return {name: machine.installed(name) or "none" for name in ("onnx", "numpy")}

    def compile(self, path: Path, threads: int | None = None) -> ReferenceProgram:  # noqa: ARG002  numpy decides
        """Read a graph; see `Target.compile`."""
        # Imported here: onnx is an extra, and looking for targets must not load it.
        try:
            import google.protobuf.message  # type: ignore[import-untyped]
            import onnx
            import onnx.reference

            from nearsight_npu.targets.contrib import OPERATORS
        except ImportError as error:
            raise UnplaceableError(
                f"{path.name} was to run on reference; onnx cannot be loaded ({one_line(error)}); {_REMEDY}"
            ) from error
        try:
            model = onnx.load(str(path))
        except (OSError, ValueError, google.protobuf.message.DecodeError) as error:
            raise _unreadable(path, error) from error
        if not model.graph.node:
            raise _unreadable(path, "it holds no operators")
        try:
            evaluator = onnx.reference.ReferenceEvaluator(model, new_ops=list(OPERATORS))
            weights = {tensor.name for tensor in model.graph.initializer}
            inputs = _ports((value for value in model.graph.input if value.name not in weights), path)
            outputs = _ports(model.graph.output, path)
        except NotImplementedError as error:
            raise UnplaceableError(
                f"{path.name} was to run on reference; it has an operator that onnx cannot evaluate "
                f"({one_line(error)}); use target='cpu'"
            ) from error
        except (ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
            if "No implementation for operator" in str(error):
                raise UnplaceableError(
                    f"{path.name} was to run on reference; onnx evaluates one of its operators in newer versions only "
                    f"({one_line(error)}); export it with a newer opset, or use target='cpu'"
                ) from error
            raise _unreadable(path, error) from error
        return ReferenceProgram(evaluator, inputs, outputs, len(model.graph.node))


class ReferenceProgram:
    """A graph in onnx's evaluator, which keeps state while it runs: a lock lets one run in at a time."""

    __slots__ = ("_evaluator", "_lock", "inputs", "outputs", "placement")

    def __init__(self, evaluator: Any, inputs: tuple[Port, ...], outputs: tuple[Port, ...], operators: int) -> None:
        self._evaluator = evaluator
        self._lock = threading.Lock()
        self.inputs = inputs
        self.outputs = outputs
        self.placement = Placement(parts=(("numpy", operators),))

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the graph once; see `Program.run`."""
        import numpy as np

        try:
            with self._lock:
                found = [np.asarray(array) for array in self._evaluator.run(list(outputs), dict(arrays))]
        except (ValueError, IndexError, TypeError) as error:
            raise InputMismatchError(
                f"the arrays were accepted, but the graph cannot use them: {one_line(error)}; "
                "check their lengths and values against each other"
            ) from error
        except (RuntimeError, ArithmeticError, KeyError, AttributeError) as error:
            raise TargetLostError(f"reference failed while running: {one_line(error)}; use target='cpu'") from error
        return dict(zip(outputs, found, strict=True))


def _unreadable(path: Path, why: object) -> UnreadableGraphError:
    return UnreadableGraphError(
        f"{path.name} was to be loaded; onnx cannot read it as a graph ({one_line(why)}); fetch or export it again"
    )


def _ports(values: Iterable[Any], path: Path) -> tuple[Port, ...]:
    import onnx.helper

    ports = []
    for value in values:
        if not value.type.HasField("tensor_type"):
            raise UnplaceableError(
                f"{path.name} has {value.name!r}, which is not an array; reference takes and gives arrays of numbers; "
                "export the model without it"
            )
        tensor = value.type.tensor_type
        shape = tuple(
            axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?" for axis in tensor.shape.dim
        )
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        ports.append(Port(name=value.name, dtype=dtype, shape=shape))
    return tuple(ports)
