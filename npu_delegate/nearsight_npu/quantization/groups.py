"""Cuts a graph into groups of operators that become the same precision together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nearsight_npu.quantization.plan import Group
from nearsight_npu.quantization.qdq import WEIGHTED
from nearsight_npu.quantization.static import FOLLOWING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nearsight_npu.quantization.source import Node, Prepared

_MATRIX = 2
_ENDS = "./"  # where a part of a name ends


def group(prepared: Prepared) -> tuple[Group, ...]:
    """Find the groups of a graph: one for each constant weight, in the graph's order.

    A group begins with a convolution, a matrix product or a look-up in a table. What takes the same weight belongs to
    it too, and so does what follows its operators only: their bias, their limits.

    Args:
        prepared: the graph.

    Returns:
        Its groups; no weight is in two of them.
    """
    firsts: dict[str, list[Node]] = {}
    owner: dict[str, str] = {}
    for node in prepared.nodes:
        weight = _weight(node, prepared) or _followed(node, owner, prepared)
        if weight:
            firsts.setdefault(weight, []).append(node)
            owner.update(dict.fromkeys(node.outputs, weight))
    names = [nodes[0].name for nodes in firsts.values()]
    return tuple(
        Group(
            name=nodes[0].name,
            kind=_kind(nodes[0]),
            nodes=tuple(node.name for node in nodes),
            weights=(weight,),
            elements=math.prod(prepared.shapes[weight]),
            block=_block(names, place),
        )
        for place, (weight, nodes) in enumerate(firsts.items())
    )


def _weight(node: Node, prepared: Prepared) -> str:
    """Give the constant weight of an operator in FP32; "" where it has none."""
    if node.kind == "Gather":
        table = node.inputs[0]
        floating = node.outputs[0] in prepared.floating  # its rows are of the table's own type
        return table if floating and len(prepared.shapes.get(table, ())) == _MATRIX else ""
    if node.kind in WEIGHTED and len(node.inputs) > 1 and node.inputs[1] in prepared.shapes:
        return node.inputs[1]
    return ""


def _followed(node: Node, owner: Mapping[str, str], prepared: Prepared) -> str:
    """Give the weight of the one group that an operator follows; "" where there is none, or another maker."""
    if node.kind not in FOLLOWING:
        return ""
    makers = {owner.get(name, "") for name in node.inputs if name and name not in prepared.constants}
    return makers.pop() if len(makers) == 1 else ""


def _kind(node: Node) -> str:
    if node.kind == "Gather":
        return "lookup"
    return "conv" if node.kind.startswith("Conv") else "matmul"


def _block(names: Sequence[str], place: int) -> str:
    """Give the longest beginning that a name shares with a neighbour's, up to the end of a part."""
    beside = (names[other] for other in (place - 1, place + 1) if 0 <= other < len(names))
    return max((_shared(names[place], other) for other in beside), key=len, default="")


def _shared(name: str, other: str) -> str:
    same = next((place for place, pair in enumerate(zip(name, other, strict=False)) if pair[0] != pair[1]), len(name))
    last = max(name[:same].rfind(end) for end in _ENDS)
    return name[: max(last, 0)]
