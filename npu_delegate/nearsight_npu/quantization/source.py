"""Reads the model that is to be quantized, refuses what cannot be, and makes a graph ready for it."""

from __future__ import annotations

import contextlib
import io
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nearsight_npu.errors import QuantizationError, UnreadableGraphError, one_line
from nearsight_npu.footprint import release

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

INSTALL = "pip install 'nearsight[quantize]'"
# Source: ONNX operator changelog: DequantizeLinear has an axis (so weights a scale per channel) from 13 on, and
# DynamicQuantizeLinear, MatMulInteger and Slice with inputs exist from 11, 10 and 10 on; Cast takes FP16 from 9 on.
OLDEST_OPSET = {"static": 13, "dynamic": 11, "weights": 10, "half": 9}
_ASKED = {"static": "static INT8", "dynamic": "dynamic INT8", "weights": "integer weights", "half": "FP16"}
_COMPUTING = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_SAME_OPSET = 11  # older graphs are raised to it. Source: quant_pre_process of onnxruntime
_QUIET = 4  # onnxruntime's log severity "fatal": what it would log is raised as well
_PREPARING = "check it with onnx.checker.check_model, and that the folder for temporary files has room for it"
INTEGER_KINDS = frozenset(
    {
        "QuantizeLinear",
        "DynamicQuantizeLinear",
        "ConvInteger",
        "MatMulInteger",
        "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "GatherBlockQuantized",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator of a graph.

    Attributes:
        name: its name, unlike any other in the graph.
        kind: the operator, such as "Conv".
        inputs: the names of the arrays it takes.
        outputs: the names of the arrays it gives.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A graph with its constants folded, its shapes inferred and its operators named.

    Attributes:
        path: where it lies.
        nodes: its operators, in order.
        constants: the names of its weights.
        bytes_of: array -> bytes of one sample of it, as far as shapes are known (a free length counts as one).
        original: the names that the operators had before.
        shapes: weight -> its shape.
        floating: the names of the arrays, weights left out, that are known to be FP32.
        halves: the names of the weights that the model looks up in FP16; see `half.widen_tables`.
    """

    path: Path
    nodes: tuple[Node, ...]
    constants: frozenset[str]
    bytes_of: dict[str, int]
    original: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    floating: frozenset[str] = frozenset()
    halves: frozenset[str] = frozenset()


def require_onnx() -> None:
    """Make sure that the extra is there.

    Raises:
        QuantizationError: if onnx cannot be imported.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise QuantizationError(
            f"a model was to be quantized; the package onnx cannot be loaded ({one_line(error)}); {INSTALL}"
        ) from error


def inspect(path: Path, mode: str) -> Any:
    """Read a model and refuse what cannot be quantized.

    Args:
        path: an ONNX file.
        mode: "static" (which plans need too), "dynamic", "weights" or "half".

    Returns:
        The `onnx.ModelProto`.

    Raises:
        QuantizationError: if it is quantized already, in FP16, keeps weights elsewhere, or is of an old opset.
        UnreadableGraphError: if it is no ONNX graph.
    """
    import google.protobuf.message  # type: ignore[import-untyped]
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, ValueError, google.protobuf.message.DecodeError) as error:
        raise _unreadable(path, one_line(error)) from error
    if not model.graph.node:
        raise _unreadable(path, "it holds no operators")
    outside = {
        entry.value for weight in model.graph.initializer for entry in weight.external_data if entry.key == "location"
    }
    if outside:
        raise QuantizationError(
            f"{path.name} was to be quantized; its weights lie outside of it ({', '.join(sorted(outside))}); "
            "join them first: onnx.save(onnx.load(path), 'joined.onnx')"
        )
    _refuse_integers(path, model)
    _refuse_half(path, model)
    opset = _opset(model)
    if opset < OLDEST_OPSET[mode]:
        raise QuantizationError(
            f"{path.name} was to be quantized; it is of opset {opset}, and {_ASKED[mode]} needs {OLDEST_OPSET[mode]}; "
            "raise it: onnx.save(onnx.version_converter.convert_version(onnx.load(path), 17), 'newer.onnx')"
        )
    return model


def _refuse_integers(path: Path, model: Any) -> None:
    weights = {weight.name for weight in model.graph.initializer}
    integer = {
        node.op_type
        for node in model.graph.node
        if node.op_type in INTEGER_KINDS
        or node.op_type.startswith("QLinear")
        or (node.op_type == "DequantizeLinear" and node.input[0] in weights)
    }
    if integer:
        raise QuantizationError(
            f"{path.name} was to be quantized; it is already ({', '.join(sorted(integer))}); "
            "start from the model in floating point"
        )


def prepare(path: Path, model: Any, folder: Path) -> Prepared:
    """Fold constants (batch normalisation, weights stored in FP16), infer shapes, name every operator.

    Args:
        path: the model's file.
        model: the same, read by `inspect`.
        folder: where to write the prepared graph.

    Returns:
        The graph, ready to be quantized.

    Raises:
        QuantizationError: if its shapes contradict each other.
    """
    import onnx

    ready = folder / "ready.onnx"
    original = tuple(node.name for node in model.graph.node)
    opset = _opset(model)
    del model  # as large as the file, and where nobody else holds it, it need not be there meanwhile
    with (
        refused(f"{path.name} was to be quantized; it cannot be prepared", _PREPARING),
        quiet(),
    ):
        _folded(path, ready, opset)
    release()
    prepared = onnx.load(str(ready))
    if _name_all(prepared):
        onnx.save(prepared, str(ready))
    return described(ready, prepared, original)


def described(path: Path, model: Any, original: tuple[str, ...]) -> Prepared:
    """Tell what is known of a graph that was made ready.

    Args:
        path: where it lies.
        model: the same, read.
        original: the names that the operators had before.
    """
    graph = model.graph
    return Prepared(
        path=path,
        nodes=nodes_of(model),
        constants=frozenset(weight.name for weight in graph.initializer),
        bytes_of={value.name: _bytes(value) for value in (*graph.value_info, *graph.input, *graph.output)},
        original=original,
        shapes={weight.name: tuple(weight.dims) for weight in graph.initializer},
        floating=frozenset(floats(graph)) - {weight.name for weight in graph.initializer},
    )


def _folded(path: Path, ready: Path, opset: int) -> None:
    """Fold constants and infer shapes, as onnxruntime's tool does, which would hold the model once more meanwhile."""
    import onnx.shape_inference
    import onnxruntime
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if opset < _SAME_OPSET:
        # Symbolic inference would need sympy; the lengths that stay open are open at run time too.
        quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
        return
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(ready.with_name("folded.onnx"))
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = _QUIET
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    release()
    onnx.shape_inference.infer_shapes_path(options.optimized_model_filepath, str(ready))


def _opset(model: Any) -> int:
    return next((int(entry.version) for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 0)


def nodes_of(model: Any) -> tuple[Node, ...]:
    """Give the operators of an `onnx.ModelProto`, in order."""
    return tuple(
        Node(name=node.name, kind=node.op_type, inputs=tuple(node.input), outputs=tuple(node.output))
        for node in model.graph.node
    )


def floats(graph: Any) -> Iterator[str]:
    """Name the arrays of an `onnx.GraphProto` that are known to be FP32."""
    from onnx import TensorProto

    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            yield value.name


def _refuse_half(path: Path, model: Any) -> None:
    from onnx import TensorProto

    used = {name for node in model.graph.node if node.op_type in _COMPUTING for name in node.input}
    fixed = [
        (node.output[0], entry.t) for node in model.graph.node if node.op_type == "Constant" for entry in node.attribute
    ]
    for name, weight in (*((weight.name, weight) for weight in model.graph.initializer), *fixed):
        kind = {TensorProto.FLOAT16: "FP16", TensorProto.DOUBLE: "FP64"}.get(weight.data_type)
        if kind and name in used:
            raise QuantizationError(
                f"{path.name} was to be quantized; it computes in {kind}; export it in FP32 "
                "(weights that are only stored in FP16, behind a Cast, would do)"
            )


def _name_all(model: Any) -> bool:
    """Give a name of its own to every operator without one; say whether any was missing."""
    seen: set[str] = set()
    changed = False
    for place, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}.{place}"
            changed = True
        seen.add(node.name)
    return changed


def _bytes(value: Any) -> int:
    count = 4
    for axis in value.type.tensor_type.shape.dim:
        count *= max(axis.dim_value, 1)
    return count


class _Heard(logging.Handler):
    """Keeps what onnxruntime's tool logs as a warning; without any handler it would set one up for our caller."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "onnxruntime" in record.pathname:
            self.lines.append(one_line(record.getMessage()))


@contextlib.contextmanager
def quiet() -> Iterator[list[str]]:
    """Keep what onnxruntime's tool prints out of our standard output, which belongs to the caller.

    Yields:
        The warnings that it logs meanwhile, in one line each.
    """
    heard, root = _Heard(), logging.getLogger()
    root.addHandler(heard)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield heard.lines
    finally:
        root.removeHandler(heard)


@contextlib.contextmanager
def refused(what: str, remedy: str) -> Iterator[None]:
    """Turn whatever onnx and onnxruntime's tool raise into one line.

    Args:
        what: what was asked and what came of it.
        remedy: what mends it.

    Raises:
        QuantizationError: for their errors.
    """
    import onnx.checker
    import onnx.shape_inference
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    own = (getattr(native, name) for name in dir(native))
    errors: tuple[type[Exception], ...] = (
        *(item for item in own if isinstance(item, type) and issubclass(item, Exception)),
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        *(ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError, RuntimeError, OSError),
    )
    try:
        yield
    except errors as error:
        raise QuantizationError(f"{what} ({one_line(error) or type(error).__name__}); {remedy}") from error


def _unreadable(path: Path, why: str) -> UnreadableGraphError:
    return UnreadableGraphError(
        f"{path.name} was to be quantized; onnx cannot read it as a graph ({why}); fetch or export it again"
    )
