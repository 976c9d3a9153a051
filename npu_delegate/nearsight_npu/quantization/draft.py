"""An ONNX graph while it is rewritten: weights are put in and re-pointed node by node, and it is saved in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nearsight_npu.quantization.source import floats, refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.source import Prepared

MICROSOFT = "com.microsoft"  # onnxruntime's own operators
_NIBBLES_IR = 10  # Source: ONNX's IR versions: 4-bit tensors exist from version 10 on


class Draft:
    """A prepared graph in memory.

    Nodes are added in any order; `save` sorts them and leaves out the weights that nothing takes any more. What is
    made of the same weight in the same way is made once, so tied weights stay tied.

    Args:
        prepared: the graph to begin with.
    """

    def __init__(self, prepared: Prepared) -> None:
        import onnx

        self.model = onnx.load(str(prepared.path))
        graph = self.model.graph
        self._first = list(graph.node)  # held, since a removed node is known by its identity
        self.nodes: dict[str, Any] = {node.name: node for node in self._first}
        self.outputs = frozenset(value.name for value in graph.output)
        self.captured = frozenset(name for node in self._first for name in taken_by(node) if name not in node.input)
        self.floating = frozenset(floats(graph)) - prepared.constants
        self._weights: dict[str, Any] = {weight.name: weight for weight in graph.initializer}
        self._added: dict[str, Any] = {}  # by what they give
        self._removed: set[int] = set()
        self._takers: dict[str, list[Any]] = {}
        for node in self._first:
            self._note(node)

    @property
    def opset(self) -> int:
        """The version of the standard operators."""
        return int(next(entry.version for entry in self.model.opset_import if entry.domain in {"", "ai.onnx"}))

    def is_weight(self, name: str) -> bool:
        """Say whether an array is a constant of the graph."""
        return name in self._weights

    def is_float(self, name: str) -> bool:
        """Say whether an array is a constant in FP32."""
        return name in self._weights and bool(self._weights[name].data_type == self._weights[name].FLOAT)

    def shape(self, name: str) -> tuple[int, ...]:
        """Give the shape of a weight."""
        return tuple(self._weights[name].dims)

    def array(self, name: str) -> Array:
        """Read a weight."""
        from onnx import numpy_helper

        read: Array = numpy_helper.to_array(self._weights[name])
        return read

    def takers(self, name: str) -> tuple[Any, ...]:
        """Give the nodes that take an array now."""
        nodes = {id(node): node for node in self._takers.get(name, ()) if name in node.input}
        return tuple(node for key, node in nodes.items() if key not in self._removed)

    def weight(self, name: str, array: Array, *, nibbles: tuple[int, ...] | None = None) -> str:
        """Put in a weight, unless one of this name is there.

        Args:
            name: its name.
            array: its values; for `nibbles` its packed bytes.
            nibbles: the shape of 4-bit codes without a sign, two of which share a byte.

        Returns:
            Its name.
        """
        from onnx import TensorProto, helper, numpy_helper

        if name not in self._weights:
            if nibbles is None:
                self._weights[name] = numpy_helper.from_array(array, name)
            else:
                self._weights[name] = helper.make_tensor(name, TensorProto.UINT4, nibbles, array.tobytes(), raw=True)
        return name

    def node(self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Put in a node, unless `output` is made by an added one already.

        Args:
            kind: the operator.
            inputs: what it takes.
            output: what it gives, which also names it.
            domain: the set the operator is of.
            **attributes: its attributes.

        Returns:
            `output`.
        """
        return self.nodes_of(kind, inputs, [output], domain, **attributes)[0]

    def nodes_of(
        self, kind: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any
    ) -> list[str]:
        """Put in a node that gives several arrays; see `node`."""
        from onnx import helper

        if outputs[0] not in self._added:
            name = f"{outputs[0]}.{kind}"
            made = helper.make_node(kind, inputs, outputs, name=name, domain=domain, **attributes)
            self._added[outputs[0]] = made
            self._note(made)
        return outputs

    def point(self, node: Any, old: str, new: str) -> None:
        """Let a node take another array instead of `old`."""
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new
        self._note(node)

    def replace(
        self, node: Any, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any
    ) -> None:
        """Put another operator in the place of a node, under its name."""
        from onnx import helper

        node.CopyFrom(helper.make_node(kind, inputs, [output], name=node.name, domain=domain, **attributes))
        self._note(node)

    def remove(self, node: Any) -> None:
        """Take a node out."""
        self._removed.add(id(node))

    def save(self, path: Path) -> None:
        """Sort the nodes, leave out what nothing takes, and write.

        Args:
            path: where to write.

        Raises:
            QuantizationError: if it cannot be written.
        """
        import onnx
        from onnx import helper

        graph = self.model.graph
        left = (*self._first, *self._added.values())
        nodes = list(in_order([node for node in left if id(node) not in self._removed]))
        taken = {name for node in nodes for name in taken_by(node)} | self.outputs
        weights = [weight for name, weight in self._weights.items() if name in taken]
        known = {output for node in nodes for output in node.output}
        shapes = [value for value in graph.value_info if value.name in known]
        # Old graphs list weights among their inputs.
        inputs = [value for value in graph.input if value.name in taken or value.name not in self._weights]
        domains = {entry.domain: entry.version for entry in self.model.opset_import}
        if any(node.domain == MICROSOFT for node in nodes):
            domains.setdefault(MICROSOFT, 1)
        narrow = any(weight.data_type == weight.UINT4 for weight in weights)
        with refused(
            f"{path.name} was to be written; it cannot be", "free some memory or disk, or choose another plan"
        ):
            made = helper.make_model(
                helper.make_graph(nodes, graph.name, inputs, graph.output, weights, value_info=shapes),
                opset_imports=[helper.make_opsetid(domain, version) for domain, version in domains.items()],
                ir_version=max(self.model.ir_version, _NIBBLES_IR if narrow else 0),
                functions=self.model.functions,
            )
            made.metadata_props.extend(self.model.metadata_props)
            onnx.save(made, str(path))

    def _note(self, node: Any) -> None:
        for name in set(node.input):
            self._takers.setdefault(name, []).append(node)


def taken_by(node: Any) -> Iterator[str]:
    """Name all that a node takes, by the branches that it holds too."""
    yield from node.input
    for attribute in node.attribute:
        for branch in (attribute.g, *attribute.graphs):
            for inner in branch.node:
                yield from taken_by(inner)
            for value in branch.output:
                yield value.name


def in_order(nodes: Collection[Any]) -> Iterable[Any]:
    """Sort nodes so that each stands behind those it takes from, and else where it was.

    Args:
        nodes: `onnx.NodeProto`, without a circle.

    Yields:
        The same.
    """
    makers = {output: node for node in nodes for output in node.output if output}
    done: set[int] = set()
    for last in nodes:
        waiting = [last]
        while waiting:
            node = waiting[-1]
            before = (makers[name] for name in taken_by(node) if name in makers)
            missing = [maker for maker in before if id(maker) not in done and maker is not node]
            if missing:
                waiting.extend(missing)
            elif id(waiting.pop()) not in done:
                done.add(id(node))
                yield node
