"""Measures, at the model's outputs, what each precision of each group costs in error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight_npu.quantization import plan as words
from nearsight_npu.quantization.moments import quiet_options
from nearsight_npu.quantization.progress import counted, untold
from nearsight_npu.quantization.source import refused
from nearsight_npu.quantization.weights import STORED
from nearsight_npu.quantization.writing import choice_of, write_plan
from nearsight_npu.targets.cpu import CpuTarget

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.plan import Group, Plan
    from nearsight_npu.quantization.progress import OnProgress
    from nearsight_npu.quantization.ranges import Ranges
    from nearsight_npu.quantization.source import Prepared
    from nearsight_npu.quantization.weights import Weights
    from nearsight_npu.quantization.writing import Recipe

_ALIKE = 1e-4  # answers nearer to each other than this share of their length hardly depend on the input
_REMEDY = "leave that sample out, or export the model with known shapes"


class Reference:
    """The model's own answers to some samples, which others are compared with.

    The error of an output is the root mean square of the differences as a share of how far (root mean square) the
    model's own answers lie from their mean; as a share of their length where there is one sample, where answers have
    unlike shapes, and where they hardly differ. That of several outputs is the root of the mean of their squares.

    Args:
        answers: for each sample the outputs, in the model's order.
    """

    def __init__(self, answers: Sequence[Sequence[Array]]) -> None:
        self._answers = answers
        self._units = [_unit([np.asarray(given[place]) for given in answers]) for place in range(len(answers[0]))]

    def error(self, answers: Iterable[Sequence[Array]]) -> float:
        """Compare answers to the same samples; infinite where they are no numbers."""
        squares = np.zeros(len(self._units))
        for given, wanted in zip(answers, self._answers, strict=True):
            for place, (left, right) in enumerate(zip(given, wanted, strict=True)):
                squares[place] += float(((np.asarray(left, np.float64) - right) ** 2).sum())
        error = float(np.sqrt((squares / self._units).mean()))
        return error if np.isfinite(error) else float("inf")


def _unit(answers: Sequence[Array]) -> float:
    """Give the square of what is one for an output's error."""
    length = sum(float((np.asarray(answer, np.float64) ** 2).sum()) for answer in answers)
    if len(answers) > 1 and len({answer.shape for answer in answers}) == 1:
        mean = np.mean(answers, axis=0, dtype=np.float64)
        spread = sum(float(((answer - mean) ** 2).sum()) for answer in answers)
        if spread > _ALIKE**2 * length:
            return spread
    return length or 1.0


class Trials:
    """Measures plans on samples.

    Plans that only change weights are measured in one session, to which the changed weights are handed on every run.
    Others are written and run, one at a time.

    Args:
        prepared: the graph.
        groups: its groups.
        weights: what their weights become.
        samples: inputs for single runs.
        folder: where to write.
        recipe: how precisions are carried out.
        ranges: what was seen of the graph's arrays, for static integers.

    Raises:
        QuantizationError: if the graph cannot run on a sample.
    """

    def __init__(
        self,
        prepared: Prepared,
        groups: Sequence[Group],
        weights: Weights,
        samples: Sequence[Mapping[str, Array]],
        folder: Path,
        *,
        recipe: Recipe | None = None,
        ranges: Ranges | None = None,
    ) -> None:
        self._prepared = prepared
        self._groups = {group.name: group for group in groups}
        self._weights = weights
        self._samples = samples
        self._folder = folder
        self._recipe = recipe
        self._ranges = ranges
        self._session = _changeable(weights.model, {group.weights[0] for group in groups})
        self._reference = Reference([self._run(self._session, sample) for sample in samples])

    def error(self, plan: Plan) -> float:
        """Measure the error of a plan's answers; see `Reference`.

        Args:
            plan: group -> precision; a group without one stays in FP32.

        Returns:
            The error.

        Raises:
            QuantizationError: if the plan cannot be written or run.
        """
        decided = {name: choice_of(group, plan) for name, group in self._groups.items()}
        if not STORED.issuperset(decided.values()):
            return self._written(plan)
        changed = {
            self._groups[name].weights[0]: self._weights.becomes(name, choice)
            for name, choice in decided.items()
            if choice != words.FP32
        }
        return self._reference.error(self._run(self._session, {**sample, **changed}) for sample in self._samples)

    def of_file(self, path: Path) -> float:
        """Measure the error of a file's answers, run as the cpu target runs it; see `Reference`."""
        program = CpuTarget().compile(path, 1)
        names = tuple(port.name for port in program.outputs)
        return self._reference.error(list(program.run(sample, names).values()) for sample in self._samples)

    def _written(self, plan: Plan) -> float:
        path = self._folder / "trial.onnx"
        prepared = self._weights.written(plan, self._folder)
        write_plan(prepared, tuple(self._groups.values()), plan, path, ranges=self._ranges, recipe=self._recipe)
        return self.of_file(path)

    def _run(self, session: Any, arrays: Mapping[str, Array]) -> list[Array]:
        with refused("a plan was to be measured; the graph cannot run", _REMEDY):
            found: list[Array] = session.run(None, dict(arrays))
        return found


def _changeable(model: Any, weights: set[str]) -> Any:
    """Open a session in which these weights may be handed in: the graph's own are their defaults."""
    import onnxruntime
    from onnx import helper

    open_model = type(model)()
    open_model.CopyFrom(model)
    graph = open_model.graph
    graph.input.extend(
        helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
        for weight in graph.initializer
        if weight.name in weights
    )
    open_model.ir_version = max(open_model.ir_version, 4)  # Source: onnx.proto: from 4 on inputs may have defaults
    with refused("precisions were to be tried; the graph cannot be opened", _REMEDY):
        return onnxruntime.InferenceSession(
            open_model.SerializeToString(), quiet_options(), providers=["CPUExecutionProvider"]
        )


def measure(
    trials: Trials, choices: Mapping[str, Sequence[str]], told: OnProgress = untold
) -> dict[str, dict[str, float]]:
    """Measure each group in each precision, all others in FP32.

    Args:
        trials: what measures.
        choices: group -> the precisions to measure.
        told: takes what is being done.

    Returns:
        Group -> precision -> square of the error, which nearly adds up over groups.
    """
    return {
        name: {choice: 0.0 if choice == words.FP32 else trials.error({name: choice}) ** 2 for choice in some}
        for name, some in counted(choices.items(), "measuring groups of operators", told, len(choices))
    }
