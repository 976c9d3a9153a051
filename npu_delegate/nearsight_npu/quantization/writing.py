"""Writes a plan: one file in which each group of operators has the precision that was decided for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization import plan as words
from nearsight_npu.quantization.draft import Draft
from nearsight_npu.quantization.dynamic import write_integer_product
from nearsight_npu.quantization.half import narrow_tables, store_half
from nearsight_npu.quantization.qdq import Coding, QdqWriter
from nearsight_npu.quantization.static import followers
from nearsight_npu.quantization.weight_only import (
    BLOCKS,
    is_lookup,
    is_product,
    write_lookup,
    write_product,
    write_stored,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.quantization.plan import Group, Plan
    from nearsight_npu.quantization.ranges import Ranges
    from nearsight_npu.quantization.source import Prepared

STATIC = {words.A8W8: "u8", words.S8W8: "s8", words.A16W8: "u16"}
WEIGHT_BITS = {words.W8: 8, words.W4: 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the precisions of a plan are carried out.

    Attributes:
        block: neighbouring weights that share a scale in "w8" and "w4": 16, 32, 64 or 128.
        blocks: the same for single groups: group name -> block.
        accuracy_level: of matrix products with "w8" or "w4": 0 computes in FP32; 4 lets the processor round
            activations to 8 bits.
        method: how static ranges are taken: "minmax", "percentile", "entropy" or "mse".
        percentile: the share of numbers that "percentile" keeps, in percent.
        reduce_range: whether INT8 weights keep to 7 bits, for x86 processors without VNNI.
        open_products: whether a matrix product of "a8w8" gives its answer unrounded where only float operators take
            it: as quick on a processor, and closer; NPUs want it rounded.

    Raises:
        QuantizationError: for a block that there is none of.
    """

    block: int = 32
    blocks: Mapping[str, int] = field(default_factory=dict)
    accuracy_level: int = 4
    method: str = "minmax"
    percentile: float = 99.99
    reduce_range: bool = False
    open_products: bool = True

    def __post_init__(self) -> None:
        for block in (self.block, *self.blocks.values()):
            if block not in BLOCKS:
                raise QuantizationError(
                    f"blocks of {block!r} weights were asked for; there are {', '.join(map(str, BLOCKS))}; choose one"
                )

    def block_of(self, group: Group) -> int:
        """Give the block of a group."""
        return self.blocks.get(group.name, self.block)


def write_plan(
    prepared: Prepared,
    groups: Sequence[Group],
    plan: Plan,
    out: Path,
    *,
    ranges: Ranges | None = None,
    recipe: Recipe | None = None,
) -> None:
    """Write a graph with a precision for each group.

    Operators of no group stay in float, but for what only follows integer ones (see `static.followers`). A table of
    embeddings has no activations, so it is stored in 8 bits where INT8 is decided for it.

    Args:
        prepared: the graph.
        groups: its groups.
        plan: group name -> precision; a group without one stays in FP32.
        out: where to write.
        ranges: what was seen of the graph's arrays; needed where a group is to compute in static integers.
        recipe: how precisions are carried out.

    Raises:
        QuantizationError: if a precision is not known or does not suit its group, ranges are missing, or the file
            cannot be written.
    """
    recipe = recipe or Recipe()
    check_plan(groups, plan)
    draft = Draft(prepared)
    for group in groups:
        _store(draft, group, choice_of(group, plan), recipe)
    narrow_tables(draft, prepared.halves)
    kinds = activations(prepared, groups, plan, ranges)
    if kinds:
        if ranges is None:
            raise QuantizationError(
                f"{len(kinds)} operators were to become static integers; no ranges were given; "
                "give ranges=take_ranges(...)"
            )
        coding = Coding(
            ranges=ranges,
            method=recipe.method,
            percentile=recipe.percentile,
            reduce_range=recipe.reduce_range,
            open_products=recipe.open_products,
        )
        QdqWriter(draft, kinds, coding).write()
    draft.save(out)


def choice_of(group: Group, plan: Plan) -> str:
    """Give the precision that a group gets: a table of embeddings has no activations, only weights."""
    choice = plan.get(group.name, words.FP32)
    return words.W8 if group.kind == "lookup" and choice in {*STATIC, words.DYNAMIC} else choice


def activations(
    prepared: Prepared, groups: Sequence[Group], plan: Plan, ranges: Ranges | None = None
) -> dict[str, str]:
    """Tell which operators a plan makes static integers: name -> type of the activations."""
    static = {group.name: STATIC[choice] for group in groups if (choice := choice_of(group, plan)) in STATIC}
    decided = {name: static.get(group.name, "") for group in groups for name in group.nodes}
    return followers(prepared, decided, None if ranges is None else ranges.spreads)


def check_plan(groups: Sequence[Group], plan: Plan) -> None:
    """Refuse a plan that cannot be carried out.

    Raises:
        QuantizationError: for an unknown group, an unknown precision, or one that a group cannot have.
    """
    kinds = {group.name: group.kind for group in groups}
    for name, choice in plan.items():
        if name not in kinds:
            raise QuantizationError(
                f"{name!r} was to become {choice}; there is no such group; groups are {', '.join(kinds)[:120]}..."
            )
        if choice not in words.CHOICES:
            raise QuantizationError(
                f"{name!r} was to become {choice!r}; there are {', '.join(words.CHOICES)}; choose one of them"
            )
        if choice == words.DYNAMIC and kinds[name] == "conv":
            raise QuantizationError(
                f"{name!r} was to become {choice}; that is for matrix products, and it is a convolution; choose "
                f"{words.A8W8} or {words.W8}"
            )


def _store(draft: Draft, group: Group, choice: str, recipe: Recipe) -> None:
    """Store a group's weights as decided; those of static integers are the QDQ writer's."""
    for node in (draft.nodes[name] for name in group.nodes):
        for name in [name for name in dict.fromkeys(node.input) if name in group.weights and draft.is_float(name)]:
            if choice not in {words.FP32, words.FP16} and not np.isfinite(draft.array(name)).all():
                raise QuantizationError(
                    f"{group.name!r} was to become {choice}; its weight {name!r} holds numbers that are not finite; "
                    "keep it in float"
                )
            if choice == words.FP16:
                store_half(draft, node, name)
            elif choice == words.DYNAMIC and is_product(draft, node):
                write_integer_product(draft, node, reduce_range=recipe.reduce_range)
            elif choice in WEIGHT_BITS:
                _store_bits(draft, node, name, WEIGHT_BITS[choice], recipe.block_of(group), recipe.accuracy_level)


def _store_bits(draft: Draft, node: Any, name: str, bits: int, block: int, level: int) -> None:
    if is_product(draft, node) and node.input[1] == name:
        write_product(draft, node, bits, block, level)
    elif is_lookup(draft, node) and node.input[0] == name:
        write_lookup(draft, node, bits, block)
    else:
        write_stored(draft, node, name, bits)
