"""The agent: plans, takes one step after the other, and answers with what it did."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nearsight.agent.builtin import BuiltIn, UnknownCameraError, UnsentError
from nearsight.agent.planners.remote import NANO, planned
from nearsight.agent.planners.rules import Planner, RulePlanner, Scene
from nearsight.agent.replies import reply
from nearsight.agent.steps import Answer, Plan, Step
from nearsight.agent.tools import Tool, checked, from_function
from nearsight.errors import AgentError, InputError, RemoteError
from nearsight.wording import CALIBRATED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from nearsight.gallery import Gallery
    from nearsight.values import Hit
    from nearsight_npu import Decision, Policy

# In characters; one sentence is wanted.
LONGEST_QUESTION = 1000


class Agent:
    """Answers questions about a gallery and about picture files, in English and Chinese, by calling tools.

    It plans once, from the question alone; nothing that a tool finds (a caption, metadata, a file name) is ever read
    as an instruction.

    Args:
        gallery: what is searched; None for questions about picture files only.
        tools: more tools: plain functions with type hints and a docstring.
        planner: "nano" for the rules; the name of an installed language model, such as "qwen2.5-0.5b-instruct", which
            is asked where the rules understood too little; or an object with their `plan(question, scene)`.
        approve: asked before each step that may have an effect outside: `notify`, and every tool of your own; without
            it such steps are refused.
        now: what "yesterday" counts from; None for the clock.
        detector: what `detect` asks; None makes `Detector()` when it is needed.
        captioner: what `describe` asks; None makes `Captioner()` when it is needed.
        policy: whether a plan that the rules are unsure of may be asked for elsewhere.
        notify: called with the message of an approved `notify` step.

    Raises:
        AgentError: for a function that cannot be a tool.
        InputError: for a planner that does not exist.
        ModelError: for a language model that cannot be loaded.
    """

    def __init__(
        self,
        *,
        gallery: Gallery | None = None,
        tools: Sequence[Callable[..., Any]] = (),
        planner: str | Planner = NANO,
        approve: Callable[[Step], bool] | None = None,
        now: datetime | None = None,
        detector: Any = None,
        captioner: Any = None,
        policy: Policy | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self._planner: Planner = _named_planner(planner, policy) if isinstance(planner, str) else planner
        self._built_in = BuiltIn(gallery=gallery, detector=detector, captioner=captioner, policy=policy, send=notify)
        self._own = tuple(from_function(function) for function in tools)
        self._approve, self._now, self._policy = approve, now, policy
        names = [tool.name for tool in (*self._built_in.tools(), *self._own)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise AgentError(f"there would be two tools {', '.join(twice)}; rename yours")

    def plan(self, question: str) -> list[Step]:
        """Plan without doing anything.

        Raises:
            InputError: if nothing is asked.
        """
        return list(self._planned(question).steps)

    def steps(self, question: str) -> Iterator[Step]:
        """Plan, then do and give one step after the other."""
        return self._done(self._planned(question))

    def run(self, question: str) -> Answer:
        """Answer a question.

        Args:
            question: one sentence in English or Chinese.

        Returns:
            The answer in that language, with the steps and hits behind it.

        Raises:
            InputError: if nothing is asked.
            AgentError: if the code of one of your own tools fails.
        """
        plan = self._planned(question)
        steps = tuple(self._done(plan))
        return Answer(
            text=reply(plan, steps),
            language=plan.language,
            items=_behind(steps),
            steps=steps,
            decision=_summed(plan, steps),
            confidence=plan.confidence,
            notes=plan.notes,
        )

    def _planned(self, question: str) -> Plan:
        if not isinstance(question, str) or not question.strip():
            raise InputError("nothing is asked; ask a question, such as: was there a red truck at gate-3 yesterday?")
        if len(question) > LONGEST_QUESTION:
            raise InputError(
                f"a question of {len(question)} characters was asked; {LONGEST_QUESTION} are read; shorten it"
            )
        from nearsight.cooperate import current

        now = self._now or datetime.now()  # noqa: DTZ005  (cameras write local times)
        scene = Scene(now=now, cameras=self._built_in.cameras(), tools=self._tools("en"))
        return planned(self._planner, question, scene, current(self._policy))

    def _tools(self, language: str) -> tuple[Tool, ...]:
        return (*self._built_in.tools(language), *self._own)

    def _done(self, plan: Plan) -> Iterator[Step]:
        tools = {tool.name: tool for tool in self._tools(plan.language)}
        before: Step | None = None
        for step in plan.steps:
            before = self._take(step, tools, before)
            yield before

    def _take(self, step: Step, tools: dict[str, Tool], before: Step | None) -> Step:
        """Do one step, or say why not; a mistake in the plan or the question becomes its result."""
        if step.if_found and (before is None or not before.found or not _looked(before)):
            why = "unknown" if before is None or not _looked(before) else "nothing found"
            return replace(step, status="skipped", result={"why": why})
        begin = time.perf_counter()
        try:
            tool = _named(step.tool, tools)
            step = replace(step, arguments=checked(tool, step.arguments))
            if tool.has_effects and not self._approved(step):
                return replace(step, status="refused", result={"error": "needs approval"})
            # How long a person thought about it does not count.
            begin = time.perf_counter()
            outcome = tool.call(**step.arguments)
        except (InputError, RemoteError, UnsentError) as error:
            told: dict[str, Any] = {"error": str(error), "mistake": isinstance(error, InputError)}
            if isinstance(error, UnknownCameraError):
                told |= {"camera": error.camera, "cameras": list(error.cameras)}
            return replace(step, status="failed", result=told, latency_ms=_ms_since(begin))
        return replace(
            step,
            status="done",
            result=outcome.result,
            found=outcome.found,
            items=outcome.items,
            decision=outcome.decision,
            latency_ms=_ms_since(begin),
        )

    def _approved(self, step: Step) -> bool:
        return self._approve is not None and self._approve(step) is True


def _named_planner(name: str, policy: Policy | None) -> Planner:
    if name == NANO:
        return RulePlanner()
    from nearsight.agent.planners.local import LocalPlanner
    from nearsight.errors import UnknownModelError

    try:
        return LocalPlanner(name, policy=policy)
    except UnknownModelError as error:
        raise InputError(
            f'there is no planner "{name}"; there is "{NANO}", and language models (nearsight models list)'
        ) from error


def _named(name: str, tools: dict[str, Tool]) -> Tool:
    if name not in tools:
        raise InputError(f"there is no tool {name}; there are {', '.join(tools)}")
    return tools[name]


def _looked(step: Step) -> bool:
    """Tell whether a step saw: without a picture, or by a model that nobody calibrated, neither yes nor no is known."""
    if step.status != "done" or not step.result.get("total_considered", 1):
        return False
    return bool(step.result.get("basis") != "pictures" or step.result["min_relevance"] >= CALIBRATED)


def _behind(steps: tuple[Step, ...]) -> tuple[Hit, ...]:
    """Gather the hits of all steps, each picture once."""
    first: dict[Path, Hit] = {}
    for step in steps:
        for hit in step.items:
            first.setdefault(hit.path, hit)
    return tuple(first.values())


def _summed(plan: Plan, steps: tuple[Step, ...]) -> Decision:
    """Account for the whole answer: the last model call, after the rungs of the plan; everything that was sent."""
    assert plan.decision is not None
    decisions = [step.decision for step in steps if step.decision is not None]
    if not decisions:
        return plan.decision
    sent = tuple(one for decision in (plan.decision, *decisions) for one in decision.sent)
    return replace(decisions[-1], rungs=(*plan.decision.rungs, *decisions[-1].rungs), sent=sent)


def _ms_since(begin: float) -> float:
    return (time.perf_counter() - begin) * 1e3
