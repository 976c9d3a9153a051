"""The weights of a graph's groups, and what each of them becomes in a precision that only stores weights."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight_npu.quantization import plan as words
from nearsight_npu.quantization.draft import Draft
from nearsight_npu.quantization.moments import Tap, moments
from nearsight_npu.quantization.qdq import WIDE, channel_axis, channel_scales
from nearsight_npu.quantization.rounding import DAMPINGS, compensated, halved, loss, spread_of, stored
from nearsight_npu.quantization.weight_only import blockwise, is_lookup, is_product, rows_of, transposed
from nearsight_npu.quantization.writing import WEIGHT_BITS, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.plan import Group, Plan
    from nearsight_npu.quantization.source import Prepared
    from nearsight_npu.quantization.weight_only import Blocks

STORED = frozenset({words.FP32, words.FP16, words.W8, words.W4})  # precisions that change weights and nothing else
_MOST_INPUTS = 8192  # of a product whose errors are compensated; more would take minutes each


class Weights:
    """What the groups' weights are, and what they become.

    Args:
        prepared: the graph.
        groups: its groups.
        recipe: how precisions are carried out.
    """

    def __init__(self, prepared: Prepared, groups: Sequence[Group], recipe: Recipe | None = None) -> None:
        self._prepared = prepared
        self._groups = {group.name: group for group in groups}
        self._recipe = recipe or Recipe()
        self._draft = Draft(prepared)
        self._made: dict[tuple[str, str], Blocks] = {}

    @property
    def model(self) -> Any:
        """The graph as an `onnx.ModelProto`, not to be changed."""
        return self._draft.model

    def of(self, name: str) -> Array:
        """Read the weight of a group."""
        return self._draft.array(self._groups[name].weights[0])

    def becomes(self, name: str, choice: str) -> Array:
        """Give what a runtime restores of a group's weight.

        Args:
            name: the group.
            choice: one of `STORED`.

        Returns:
            float32, of the weight's own shape.
        """
        array = self.of(name)
        if choice == words.FP32:
            return array
        if choice == words.FP16:
            return halved(array)
        bits = WEIGHT_BITS[choice]
        node = self._node(name)
        if not is_product(self._draft, node):
            if is_lookup(self._draft, node):
                return blockwise(array, bits, self._recipe.block_of(self._groups[name])).restored()
            made = self._made.get((name, choice))
            return stored(array, bits) if made is None else made.restored().reshape(array.shape)
        made = self._made.get((name, choice)) or blockwise(self._rows(name), bits, self._block(name))
        rows = made.restored()
        return rows if transposed(node) else np.ascontiguousarray(rows.T)

    def moved(self, name: str, choice: str) -> tuple[float, float]:
        """Give the sum of the squares by which a weight moves in any precision, and that of its own numbers."""
        array = self.of(name)
        if choice in STORED:
            after = self.becomes(name, choice)
        else:
            axis = channel_axis(self._node(name), array.ndim)
            shape = [-1 if place == axis else 1 for place in range(array.ndim)]
            steps = channel_scales(array, axis, WIDE).reshape(shape)
            after = np.rint(array / steps) * steps
        own = array.astype(np.float64)
        return float(((after - own) ** 2).sum()), float((own**2).sum())

    def compensate(
        self,
        choices: Mapping[str, Sequence[str]],
        fitted: Sequence[Mapping[str, Array]],
        checked: Sequence[Mapping[str, Array]],
    ) -> None:
        """Round weights so that errors make up for each other on these samples.

        From then on `becomes` and `written` give these weights. A weight is rounded plainly where that is better on
        the samples to check on: compensation that follows chance is worse than none.

        Args:
            choices: group -> "w8", "w4" or both; what is no matrix product of at most 8,192 inputs is left alone.
            fitted: samples to round after.
            checked: other samples, to check on.

        Raises:
            QuantizationError: if the graph cannot run on a sample.
        """
        taken: dict[Tap, list[str]] = {}
        for name in choices:
            tap = self._tap(name)
            if tap is not None and tap.inputs <= _MOST_INPUTS:
                taken.setdefault(tap, []).append(name)
        for tap, fit, check in moments(self.model, tuple(taken), fitted, checked):
            spreads = [spread_of(fit, DAMPINGS[0])]
            for name in taken[tap]:
                for choice in choices[name]:
                    self._compensate_one(name, choice, fit, check, spreads)

    def _compensate_one(self, name: str, choice: str, fit: Array, check: Array, spreads: list[Array]) -> None:
        rows, block, bits = self._rows(name), self._block(name), WEIGHT_BITS[choice]
        least = loss(rows, blockwise(rows, bits, block).restored(), check)
        for place, damping in enumerate(DAMPINGS):
            if place == len(spreads):
                spreads.append(spread_of(fit, damping))
            made = compensated(rows, spreads[place], bits, block)
            if loss(rows, made, check) < least:
                self._made[name, choice] = blockwise(made, bits, block)
                return

    def written(self, plan: Plan, folder: Path) -> Prepared:
        """Write the graph with the compensated weights of a plan, still in FP32: rounding finds the same codes again.

        Args:
            plan: group -> precision.
            folder: where to write.

        Returns:
            The graph there; the one that was given where no group of the plan has compensated weights.
        """
        import onnx
        from onnx import numpy_helper

        changed = [name for name, choice in plan.items() if (name, choice) in self._made]
        if not changed:
            return self._prepared
        model = onnx.load(str(self._prepared.path))
        held = {weight.name: weight for weight in model.graph.initializer}
        for name in changed:
            weight = self._groups[name].weights[0]
            held[weight].CopyFrom(numpy_helper.from_array(self.becomes(name, plan[name]), weight))
        path = folder / "compensated.onnx"
        onnx.save(model, str(path))
        return replace(self._prepared, path=path)

    def _node(self, name: str) -> Any:
        return self._draft.nodes[self._groups[name].nodes[0]]

    def _block(self, name: str) -> int:
        """Give how many weights share a step: a block in a product, all of a channel in a convolution."""
        if is_product(self._draft, self._node(name)):
            return self._recipe.block_of(self._groups[name])
        shape = self._draft.shape(self._groups[name].weights[0])
        return math.prod(shape[1:])

    def _rows(self, name: str) -> Array:
        """Read the weight of a product or of a convolution of single places: (outputs, inputs)."""
        node = self._node(name)
        if is_product(self._draft, node):
            return rows_of(self._draft, node)
        array = self.of(name)
        return array.reshape(array.shape[0], -1)

    def _tap(self, name: str) -> Tap | None:
        """Tell what a group's product takes; None where it is not one product, seen from its one operator."""
        node = self._node(name)
        shape = self._draft.shape(self._groups[name].weights[0])
        if len(self._draft.takers(self._groups[name].weights[0])) > 1:
            return None
        if is_product(self._draft, node):
            return Tap(name=node.input[0], inputs=shape[1] if transposed(node) else shape[0], axis=-1)
        if node.op_type == "Conv" and math.prod(shape[2:]) == 1 and _plain(node):
            return Tap(name=node.input[0], inputs=shape[1], axis=1)
        return None


def _plain(node: Any) -> bool:
    """Say whether a convolution of single places takes every place, with nothing around, and all channels at once."""
    usual = {"group": 1, "strides": 1, "pads": 0}
    values = {entry.name: (list(entry.ints) or [entry.i]) for entry in node.attribute if entry.name in usual}
    return all(set(found) == {usual[name]} for name, found in values.items())
