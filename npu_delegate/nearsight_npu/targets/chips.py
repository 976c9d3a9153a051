"""What a chip can run: the table in chips.toml, and a graph held against it. Pure, but for reading that file once."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearsight_npu.errors import UnplaceableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_TABLE = Path(__file__).with_name("chips.toml")
_BORDERS = ("QuantizeLinear", "DequantizeLinear")
# They ask for shapes, which are fixed: a toolchain knows their answers beforehand.
_OF_SHAPES = ("Shape", "Size")
# Behind an operator on codes they cost nothing: its result is cut off before it is written.
_CUTS = ("Relu", "Clip")
# What they are given as a constant are weights; what others are given is one more operand, in codes as the first.
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_FLOATS = ("float32", "float16", "float64", "bfloat16")
_BIAS = "int32"
HOST = "the host's processor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A chip's operators and number types; chips.toml says where they are published.

    Attributes:
        name: what it is called.
        aliases: other names.
        target: which of our targets runs on the chip itself.
        built_as: what its toolchain calls it.
        operators: the ONNX operators that its toolchain builds, those of other domains with the domain in front.
        attributes: operator -> attribute -> values that it may have; none: it may not be given.
        ranks: operator -> number of an input -> how many axes that may have.
        scalars: operator -> numbers of inputs that have to be constants of one number.
        absent: operator -> numbers of inputs that may not be given.
        in_gelu: operators that run as a part of Gelu only.
        codes: types of integer activations.
        weights: types of integer weights.
        floats: what it computes floating-point operators in.
        ports: types of what a graph takes and gives.
        host: whether operators that the chip lacks run on the host's processor; else the graph is refused.
    """

    name: str
    aliases: tuple[str, ...]
    target: str
    built_as: str
    operators: frozenset[str]
    attributes: Mapping[str, Mapping[str, tuple[object, ...]]]
    ranks: Mapping[str, Mapping[str, tuple[int, ...]]]
    scalars: Mapping[str, tuple[int, ...]]
    absent: Mapping[str, tuple[int, ...]]
    in_gelu: tuple[str, ...]
    codes: tuple[str, ...]
    weights: tuple[str, ...]
    floats: str
    ports: tuple[str, ...]
    host: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """A graph held against a chip.

    Attributes:
        on_codes: how many operators work on integers.
        on_floats: how many work on floating-point numbers.
        left_over: how many the chip cannot run.
        lacking: (operator, why the chip cannot run it), each pair once, in the graph's order.
        unfit: why the graph as a whole does not fit: free shapes, types of its ports.
    """

    on_codes: int
    on_floats: int
    left_over: int
    lacking: tuple[tuple[str, str], ...]
    unfit: tuple[str, ...]


@cache
def chips() -> tuple[Chip, ...]:
    """Give every chip of the table."""
    table = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
    sets = table["set"]
    return tuple(Chip(name=name, **_facts(facts, sets)) for name, facts in table["chip"].items())


def chip_named(name: str) -> Chip:
    """Give the chip of this name or alias; upper and lower case, blanks and dashes make no difference.

    Raises:
        UnplaceableError: if there is none.
    """
    chip = _known(name)
    if chip is None:
        raise UnplaceableError(
            f"the chip {name!r} was asked for; there are {', '.join(chip.name for chip in chips())}; choose one of them"
        )
    return chip


def targets_for(name: str) -> str:
    """Say which targets there are for a chip; nothing for what is none.

    Args:
        name: of the chip, or an alias, with or without the name of a target and a colon in front.
    """
    chip = _known(name.rpartition(":")[2])
    if chip is None:
        return ""
    simulated = f"simulated:{chip.name.replace(' ', '-')}"
    return f"that is a chip: {simulated} computes its numbers on any machine, {chip.target} runs on the chip itself"


def _known(name: str) -> Chip | None:
    named = (chip for chip in chips() if _plain(name) in map(_plain, (chip.name, *chip.aliases)))
    return next(named, None)


def covered(model: Any, chip: Chip) -> Coverage:
    """Hold a graph against what a chip can run.

    An operator works on codes if all that it takes, but constants, comes out of DequantizeLinear; Relu and Clip right
    behind one such operator count with it. What depends on constants and shapes only is known before the graph runs,
    and is not counted.

    Args:
        model: an `onnx.ModelProto`.
        chip: the chip.

    Returns:
        How many operators run on it in which numbers, and what does not.
    """
    graph = _Graph(model)
    on_codes = on_floats = left_over = 0
    lacking: dict[tuple[str, str], None] = {}
    for node in graph.running():
        border = node.op_type in _BORDERS
        whys = list((_bad_codes if border else _bad_operator)(node, graph, chip))
        lacking.update(dict.fromkeys((_spelt(node), why) for why in whys))
        if whys:
            left_over += 1
        elif not border and graph.on_codes(node):
            on_codes += 1
        elif not border:
            on_floats += 1
    return Coverage(
        on_codes=on_codes,
        on_floats=on_floats,
        left_over=left_over,
        lacking=tuple(lacking),
        unfit=tuple(_bad_ports(graph, chip)),
    )


@dataclass(slots=True)
class _Graph:
    """A graph with what has to be known about its values.

    Attributes:
        model: the `onnx.ModelProto`.
        constants: names of values that are known before the graph runs.
        weights: name -> initializer.
        makers: name of a value -> the node that gives it.
        types: name of a value -> its type, as far as it can be inferred.
        axes: name of a value -> how many axes it has, as far as it can be inferred.
    """

    model: Any
    constants: set[str] = field(init=False)
    weights: dict[str, Any] = field(init=False)
    makers: dict[str, Any] = field(init=False)
    types: dict[str, str] = field(init=False)
    axes: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.constants = set(self.weights)
        for node in graph.node:
            known = all(not name or name in self.constants for name in node.input)
            if node.op_type in _OF_SHAPES or (known and not _has_graphs(node)):
                self.constants.update(node.output)
        self.types = {name: type_name(tensor.data_type) for name, tensor in self.weights.items()}
        self.axes = {name: len(tensor.dims) for name, tensor in self.weights.items()}
        for value in _inferred(self.model):
            self.types[value.name] = type_name(value.type.tensor_type.elem_type)
            if value.type.tensor_type.HasField("shape"):
                self.axes[value.name] = len(value.type.tensor_type.shape.dim)

    def running(self) -> Iterator[Any]:
        """Give the nodes that run each time, and the borders between codes and numbers of constants."""
        for node in self.model.graph.node:
            if node.op_type in _BORDERS or not all(name in self.constants for name in node.output):
                yield node

    def moving(self, node: Any) -> list[str]:
        """Name what a node takes besides constants."""
        return [name for name in node.input if name and name not in self.constants]

    def on_codes(self, node: Any) -> bool:
        """Say whether a node works on integers."""
        taken = self.moving(node)
        if not any(self.types.get(name, "float32") in _FLOATS for name in taken):
            return True
        makers = [self.makers.get(name) for name in taken]
        if node.op_type in _CUTS and len(makers) == 1 and makers[0] is not None and makers[0].op_type not in _BORDERS:
            return self.on_codes(makers[0])
        return all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers)

    def in_gelu(self, node: Any) -> bool:
        """Say whether an Erf stands as in x (1 + erf(x / sqrt 2)) / 2, wherever the halving is written."""
        before = self.makers.get(node.input[0])
        after = self.takers(node)
        if [taker.op_type for taker in after] == ["Mul"]:
            after = self.takers(after[0])
        if before is None or before.op_type not in ("Div", "Mul") or [taker.op_type for taker in after] != ["Add"]:
            return False
        return [taker.op_type for taker in self.takers(after[0])] == ["Mul"]

    def takers(self, node: Any) -> list[Any]:
        """Give the nodes that take what a node gives."""
        return [other for other in self.model.graph.node if any(name in node.output for name in other.input if name)]


def type_name(number: int) -> str:
    """Give the numpy name of an ONNX element type, or ONNX's own where numpy has none."""
    from onnx import TensorProto

    known = {"FLOAT": "float32", "DOUBLE": "float64"}
    name = TensorProto.DataType.Name(number) if number in TensorProto.DataType.values() else "UNDEFINED"
    return known.get(name, name.lower())


def attribute_of(node: Any, name: str) -> object:
    """Give a node's attribute: as it stands, else ONNX's default, else None."""
    import onnx

    for given in node.attribute:
        if given.name == name:
            value = onnx.helper.get_attribute_value(given)
            return value.decode() if isinstance(value, bytes) else value
    if node.domain or not onnx.defs.has(node.op_type):
        return None
    default = onnx.defs.get_schema(node.op_type).attributes.get(name)
    if default is None or default.default_value.type == onnx.AttributeProto.UNDEFINED:
        return None
    value = onnx.helper.get_attribute_value(default.default_value)
    return value.decode() if isinstance(value, bytes) else value


def _bad_ports(graph: _Graph, chip: Chip) -> Iterator[str]:
    main = graph.model.graph
    for value in main.input:
        shape = value.type.tensor_type.shape.dim
        if value.name not in graph.weights and not all(axis.HasField("dim_value") for axis in shape):
            axes = ", ".join(
                str(axis.dim_value) if axis.HasField("dim_value") else axis.dim_param or "?" for axis in shape
            )
            yield f"{value.name!r} has the shape ({axes}), and every length has to be fixed"
    for value in (*main.input, *main.output):
        kind = graph.types.get(value.name, "undefined")
        if value.name not in graph.weights and kind not in chip.ports:
            yield f"{value.name!r} is {kind}, and it may be {_either(chip.ports)}"


def _bad_operator(node: Any, graph: _Graph, chip: Chip) -> Iterator[str]:
    name = _spelt(node)
    if name in chip.in_gelu:
        if not graph.in_gelu(node):
            yield "it has it as a part of Gelu only"
        return
    if name not in chip.operators:
        yield "not among its operators"
        return
    for attribute, allowed in chip.attributes.get(name, {}).items():
        value = attribute_of(node, attribute)
        if attribute == "to" and isinstance(value, int):
            value = type_name(value)
        # Whether padding counts means nothing where there is none.
        if value is None or (attribute == "count_include_pad" and not any(_listed(attribute_of(node, "pads")))):
            continue
        if not allowed:
            yield f"{attribute} is given, and may not be"
        elif any(item not in allowed for item in _listed(value)):
            yield f"{attribute} is {value}, and may be {_either(allowed)}"
    yield from _bad_inputs(node, graph, chip)


def _bad_inputs(node: Any, graph: _Graph, chip: Chip) -> Iterator[str]:
    name = _spelt(node)
    taken = dict(enumerate(node.input))
    for number, allowed in chip.ranks.get(name, {}).items():
        value = taken.get(int(number), "")
        if value in graph.axes and graph.axes[value] not in allowed:
            yield f"its input {value!r} has {graph.axes[value]} axes, and may have {_either(allowed)}"
    for index in chip.scalars.get(name, ()):
        value = taken.get(index, "")
        if value and (value not in graph.constants or graph.axes.get(value, 0) > 1):
            yield f"its input {value!r} has to be one constant number"
    for index in chip.absent.get(name, ()):
        if taken.get(index):
            yield f"its input {taken[index]!r} may not be given"


def _bad_codes(node: Any, graph: _Graph, chip: Chip) -> Iterator[str]:
    """Look at the codes on one border between codes and numbers."""
    codes = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
    kind = graph.types.get(codes) or graph.types.get(node.input[2] if len(node.input) > 2 else "", "uint8")
    constant = codes in graph.constants
    if constant and any(taker.op_type in _WEIGHTED for taker in graph.takers(node)):
        if kind not in (*chip.weights, _BIAS):
            yield f"weights are {kind}, and may be {_either(chip.weights)}"
    elif constant and kind not in (*chip.codes, *chip.weights, _BIAS):
        yield f"constants are {kind}, and may be {_either(dict.fromkeys((*chip.codes, *chip.weights)))}"
    if not constant and kind not in chip.codes:
        yield f"activations are {kind}, and may be {_either(chip.codes)}"
    scale = graph.weights.get(node.input[1])
    many = scale is not None and any(length > 1 for length in scale.dims)
    if many and not constant:
        yield "activations have a scale for each channel, and may have one"
    if attribute_of(node, "block_size"):
        yield "weights have a scale for each block, and may have one for each channel"


def _spelt(node: Any) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else str(node.op_type)


def _has_graphs(node: Any) -> bool:
    return any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)


def _inferred(model: Any) -> Iterable[Any]:
    """Give every value whose type ONNX can infer; onnxruntime's own operators it does not know."""
    import onnx

    # Not strict: what cannot be inferred is left out, and nothing is raised for it.
    known = (
        onnx.shape_inference.infer_shapes(model).graph
        if model.ByteSize() < onnx.checker.MAXIMUM_PROTOBUF
        else model.graph
    )
    return (*known.value_info, *known.input, *known.output)


def _either(values: Iterable[object]) -> str:
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}" if others else last


def _listed(value: object) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _facts(facts: Mapping[str, Any], sets: Mapping[str, Any]) -> dict[str, Any]:
    """Turn one chip's entry and its set of operators into the fields of `Chip`."""
    own = _resolved(sets[facts["operators"]], sets)
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    return {
        **given,
        "operators": frozenset(own["operators"]),
        "attributes": own.get("attributes", {}),
        "ranks": own.get("ranks", {}),
        "scalars": own.get("scalars", {}),
        "absent": own.get("absent", {}),
        "in_gelu": tuple(own.get("in_gelu", ())),
    }


def _resolved(own: Mapping[str, Any], sets: Mapping[str, Any]) -> dict[str, Any]:
    if "like" not in own:
        return dict(own)
    base = _resolved(sets[own["like"]], sets)
    left = [name for name in base["operators"] if name not in own.get("without", ())]
    attributes = {**base.get("attributes", {}), **own.get("attributes", {})}
    attributes = {name: limits for name, limits in attributes.items() if name in left}
    return {**base, "operators": left, "attributes": attributes}
