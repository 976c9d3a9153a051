"""Scores keep their meaning: one step at the end of the converted graph takes them back to the model's own scale.

Rounding shrinks or stretches scores, so that a threshold lets another share pass than it did. The step is monotone (it
changes no order) and has two numbers for each output, a slope and a shift: of the logit where scores are probabilities,
of the score itself where they are not. They are fitted so that as many scores pass each of many thresholds as pass in
the model itself, on the samples that ranges were taken from, and checked on the ones that were held out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight_npu.errors import QuantizationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.verdict import Answers
    from nearsight_npu.targets.target import Port

LOGIT, LINEAR = "logit", "linear"
CHECKED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # thresholds of probabilities that are reported
_EDGE = 1e-6  # probabilities nearer to 0 and 1 than this have no logit that FP32 can tell from the next
_GRID = np.linspace(-2.9, 2.9, 40)  # logits of thresholds from .05 to .95
_SHARES = np.geomspace(1e-3, 0.5, 40)  # of scores that are no probabilities
_REPORTED = (0.5, 0.1, 0.01)  # their thresholds that are reported, as shares of the model's scores above
_FEWEST_ABOVE = 20  # fewer scores above a threshold say nothing about it
_FEWEST_THRESHOLDS = 3
_WORTH = 0.75  # a step stays only if it leaves no more than this share of the difference
_FINE = 1e-3  # of the search's first stride


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A monotone step on scores.

    Attributes:
        space: "logit" for probabilities, "linear" for any other scores.
        slope: above 0.
        shift: added after the slope.
    """

    space: str
    slope: float
    shift: float

    def __call__(self, scores: Array) -> Array:
        """Take scores of any shape to the other scale."""
        if self.space == LINEAR:
            return scores * self.slope + self.shift
        return _probability(_logit(scores) * self.slope + self.shift)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passing:
    """How many scores a threshold lets pass, on the samples that were compared.

    Attributes:
        threshold: scores of at least this much pass.
        before: how many of the model's own do.
        converted: how many of the converted graph's do, as they come.
        recalibrated: how many of these do behind the step.
    """

    threshold: float
    before: int
    converted: int
    recalibrated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibration:
    """What became of the scores of one output.

    Attributes:
        output: its name.
        step: what was fitted; None where nothing could be.
        kept: whether the step stands in the file: only if, on the samples that were compared, it takes away at least a
            quarter of the mean difference between what thresholds let pass and what they let pass in the model, and
            does not make the median difference larger: few thresholds must not be mended at the cost of many.
        fitted_on: number of samples it was fitted on.
        passing: what thresholds let pass.
        reason: the same in one line.
    """

    output: str
    step: Step | None
    kept: bool
    fitted_on: int
    passing: tuple[Passing, ...]
    reason: str


def check_scores(scores: Sequence[str], outputs: Sequence[Port]) -> None:
    """Refuse names that are no outputs in floating point.

    Raises:
        QuantizationError: if there is one.
    """
    floating = [port.name for port in outputs if port.dtype.startswith("float")]
    for name in scores:
        if name not in floating:
            raise QuantizationError(
                f"scores={name!r} was asked for; the model's outputs in floating point are {', '.join(floating)}; "
                "name one of them"
            )


def fit(wanted: Array, given: Array) -> Step | None:
    """Find the step that lets as many scores pass each threshold as pass among the wanted ones.

    Args:
        wanted: the model's scores, of any shape.
        given: the converted graph's scores of the same samples.

    Returns:
        The step; None if too few scores lie where thresholds do.
    """
    before, after = (np.sort(np.ravel(scores)) for scores in (wanted, given))
    total = len(before)
    logit = _are_probabilities(before) and _are_probabilities(after)
    thresholds = _thresholds(LOGIT if logit else LINEAR, before)
    above = total - np.searchsorted(before, thresholds)
    usable = (above >= min(_FEWEST_ABOVE, total)) & (above < total)
    if len(np.unique(thresholds[usable])) < _FEWEST_THRESHOLDS:
        return None
    above, y = above[usable], thresholds[usable]
    # The score half-way between the last that should pass and the first that should not.
    x = (after[total - above].astype(np.float64) + after[total - above - 1]) / 2
    if logit:
        after, x, y = _logit(after), _logit(x), _logit(y)
    middle_x, middle_y = float(x.mean()), float(y.mean())
    spread = float(np.square(x - middle_x).sum())
    slope = float(((x - middle_x) * (y - middle_y)).sum()) / spread if spread else 0.0
    if slope <= 0:
        return None
    slope, middle = _refined(after, y, above, slope, (middle_x, middle_y))
    return Step(space=LOGIT if logit else LINEAR, slope=slope, shift=middle - slope * middle_x)


def _refined(
    after: Array, thresholds: Array, above: Array, slope: float, middle: tuple[float, float]
) -> tuple[float, float]:
    """Search around a line through quantiles for the step whose thresholds let the nearest shares pass.

    Where scores crowd, a small shift moves many past a threshold, and where they are rare few: the line sees both
    alike, the counts do not.

    Args:
        after: scores in ascending order, where the step is straight.
        thresholds: the same of thresholds.
        above: how many scores should pass each.
        slope: of the line.
        middle: a point on it; the search turns it around there, and moves it up and down.

    Returns:
        The slope, and the height in the middle.
    """

    def off(slope: float, height: float) -> float:
        ends = (thresholds - height) / slope + middle[0]
        passed = len(after) - np.searchsorted(after, ends)
        return float(np.abs(np.log((passed + 1) / (above + 1))).mean())

    found = min((off(*entry), *entry) for entry in ((slope, middle[1]), (1.0, middle[0])))
    reach = 1.0
    while reach > _FINE:
        tries = [
            (found[1] * (1 + reach * turn / 4), found[2] + reach * lift * float(np.ptp(thresholds)) / 8)
            for turn in (-1, 0, 1)
            for lift in (-1, 0, 1)
        ]
        better = min((off(*entry), *entry) for entry in tries)
        if better[0] < found[0]:
            found = better
        else:
            reach /= 2
    return found[1], found[2]


def recalibrate(
    name: str,
    fitted_on: tuple[Answers, Answers],
    checked_on: tuple[Answers, Answers],
) -> Recalibration:
    """Fit the step of one output, and check it on other samples.

    Args:
        name: the output.
        fitted_on: answers of the model and of the converted graph to the samples to fit on.
        checked_on: the same to the samples to check on.

    Returns:
        The step, whether it is worth having, and what thresholds let pass without and with it.
    """
    step = fit(*(_all(answers, name) for answers in fitted_on))
    wanted, given = (_all(answers, name) for answers in checked_on)
    count = len(fitted_on[0])
    if step is None:
        reason = f"scores of {name!r} stay as they are: too few of those of {count} samples lie near a threshold"
        return Recalibration(output=name, step=None, kept=False, fitted_on=count, passing=(), reason=reason)
    moved = step(given)
    passing = tuple(
        Passing(
            threshold=threshold,
            before=int((wanted >= threshold).sum()),
            converted=int((given >= threshold).sum()),
            recalibrated=int((moved >= threshold).sum()),
        )
        for threshold in _reported(step, wanted)
    )
    off, behind = (_off(step.space, wanted, scores) for scores in (given, moved))
    kept = bool(behind.mean() < _WORTH * off.mean() and np.median(behind) <= np.median(off))
    reason = (
        f"a threshold on {name!r} lets pass {off.mean():.1%} more or less than in the model on average, "
        f"{behind.mean():.1%} with the step ({step.space} x {step.slope:.4f} {step.shift:+z.4f}); it is "
        f"{'in the file' if kept else 'left out'}"
    )
    return Recalibration(output=name, step=step, kept=kept, fitted_on=count, passing=passing, reason=reason)


def step_bytes(name: str) -> int:
    """Give more bytes than a step at this output takes in a file."""
    return 1000 + 60 * len(name.encode())


def insert(path: Path, steps: Sequence[tuple[str, Step]]) -> None:
    """Put steps at the end of a graph; its ports stay as they are, and what takes the scores in it takes the new ones.

    Args:
        path: the graph, which is written anew.
        steps: pairs of an output's name and its step.
    """
    import onnx

    model = onnx.load(str(path))
    for name, step in steps:
        _insert(model.graph, name, step)
    onnx.save(model, str(path))


def _insert(graph: Any, name: str, step: Step) -> None:
    place = next(number for number, node in enumerate(graph.node) if name in node.output)
    maker = graph.node[place]
    behind = _Chain(graph, name)
    if step.space == LOGIT and maker.op_type == "Sigmoid":
        # Its input is the logit already.
        maker.input[0] = behind.affine(maker.input[0], step)
        behind.place(place)
        return
    inner = behind.fresh(f"{name}_converted")
    maker.output[:] = [inner if output == name else output for output in maker.output]
    if step.space == LINEAR:
        behind.affine(inner, step, last=name)
    else:
        inside = behind.add("Clip", inner, behind.number(_EDGE), behind.number(1 - _EDGE))
        rest = behind.add("Sub", behind.number(1.0), inside)
        logit = behind.add("Sub", behind.add("Log", inside), behind.add("Log", rest))
        behind.add("Sigmoid", behind.affine(logit, step), output=name)
    behind.place(place + 1)


def _names(graph: Any) -> Iterator[str]:
    """Give all names in a graph and its branches."""
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from (node.name, *node.output)
        for attribute in node.attribute:
            for branch in (attribute.g, *attribute.graphs):
                yield from _names(branch)


class _Chain:
    """Operators that go into a graph together."""

    def __init__(self, graph: Any, name: str) -> None:
        self._graph = graph
        self._name = f"{name}_recalibrated"
        self._nodes: list[Any] = []
        self._taken = set(_names(graph))
        self._kind = next(value.type.tensor_type.elem_type for value in graph.output if value.name == name)

    def fresh(self, name: str) -> str:
        """Give a name like this one that nothing has."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def number(self, value: float) -> str:
        """Add a constant of the output's own type, and give its name."""
        from onnx import helper

        name = self.fresh(f"{self._name}_number")
        self._graph.initializer.append(helper.make_tensor(name, self._kind, [], [value]))
        return name

    def add(self, kind: str, *inputs: str, output: str | None = None) -> str:
        """Add an operator, and give the name of its output."""
        from onnx import helper

        name = self.fresh(f"{self._name}_{len(self._nodes)}")
        made = name if output is None else output
        self._nodes.append(helper.make_node(kind, list(inputs), [made], name=name))
        return made

    def affine(self, source: str, step: Step, last: str | None = None) -> str:
        """Add slope and shift, and give the name of the output."""
        scaled = self.add("Mul", source, self.number(step.slope))
        return self.add("Add", scaled, self.number(step.shift), output=last)

    def place(self, at: int) -> None:
        """Put the operators in front of the one at this place."""
        for node in reversed(self._nodes):
            self._graph.node.insert(at, node)


def _all(answers: Answers, name: str) -> Array:
    return np.concatenate([np.ravel(answer[name]) for answer in answers])


def _reported(step: Step, wanted: Array) -> tuple[float, ...]:
    if step.space == LOGIT:
        return CHECKED
    return tuple(float(np.quantile(wanted, 1 - share)) for share in _REPORTED)


def _off(space: str, wanted: Array, given: Array) -> Array:
    """Give by how much each of many thresholds' counts differs from the model's, as a share of it; at least one.

    Rounded scores come in stairs, so that a single threshold tells more of the next stair than of the scores.
    """
    thresholds = _thresholds(space, wanted)
    before, after = (np.array([(scores >= at).sum() for at in thresholds]) for scores in (wanted, given))
    seen = before >= _FEWEST_ABOVE
    shares: Array = np.abs(after - before)[seen] / before[seen]
    return shares if seen.any() else np.zeros(1)


def _thresholds(space: str, scores: Array) -> Array:
    """Give the thresholds that a step is fitted to and judged by."""
    return _probability(_GRID) if space == LOGIT else np.asarray(np.quantile(scores, 1 - _SHARES))


def _are_probabilities(scores: Array) -> bool:
    """Say so of scores in ascending order."""
    return bool(len(scores) and scores[0] >= 0 and scores[-1] <= 1)


def _logit(probabilities: Array) -> Array:
    inside = np.clip(probabilities, _EDGE, 1 - _EDGE)
    logits: Array = np.log(inside) - np.log1p(-inside)
    return logits


def _probability(logits: Array) -> Array:
    probabilities: Array = 1 / (1 + np.exp(-logits))
    return probabilities
