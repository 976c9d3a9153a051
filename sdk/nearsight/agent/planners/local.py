"""A second opinion on the plan by a language model on this machine, asked where the rules understood too little.

What it says is checked like a stranger's letter, as a plan from elsewhere is; one that fails a check is dropped whole.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nearsight.agent.planners.remote import EXACT, RULES, instruction, read_steps
from nearsight.agent.planners.rules import RulePlanner
from nearsight.engine import AUTO, Engine
from nearsight.errors import DelegateError, InputError, RemoteError
from nearsight.families.lookup import leaf
from nearsight.sight import together
from nearsight_npu import Decision, Measured, Rung

if TYPE_CHECKING:
    from nearsight.agent.planners.rules import Scene
    from nearsight.agent.steps import Plan
    from nearsight.families.language import Language
    from nearsight_npu import Policy

LONGEST = 300  # tokens of a plan
_PLANNED = {"en": "planned by {}", "zh": "由{}规划"}
_UNUSABLE = {
    "en": "{} was asked and gave no usable plan; the rules' plan stands",
    "zh": "询问了{}，但没有得到可用的计划，沿用规则的计划",
}


class LocalPlanner:
    """Plans by the rules, and asks an installed language model where they did not understand all of the question.

    Args:
        model: Name of a model that plans, such as `qwen2.5-0.5b-instruct`.
        target: Where to run; `auto` lets the delegate choose.
        policy: How the delegate may behave.
        threads: Threads of one run.

    Raises:
        UnknownModelError: If no model bears this name, or it does not plan.
        MissingFilesError: If one of its files is not there.
        ModelError: If no family reads it, or one of its own files cannot be followed.
    """

    def __init__(
        self, model: str, *, target: str = AUTO, policy: Policy | None = None, threads: int | None = None
    ) -> None:
        wishes: dict[str, Any] = {"target": target, "policy": policy, "threads": threads}
        self._engine = Engine.shared(model, capability="plan", **wishes)
        self._language: Language = leaf(self._engine.manifest)
        self._rules, self._target = RulePlanner(), target

    def plan(self, question: str, scene: Scene) -> Plan:
        """Turn a question into steps; the decision says who planned."""
        plan = self._rules.plan(question, scene)
        if plan.confidence >= 1:
            return plan
        runs: list[Decision] = []
        talk = (("system", instruction(scene)), ("user", question))
        name, reason = self._engine.manifest.name, ""
        try:
            said = "".join(self._language.reply(self._engine, talk, runs, longest=LONGEST))
            steps = tuple(
                step if step in plan.steps else replace(step, source=name)
                for step in read_steps(said, question, scene, plan)
            )
            plan = replace(plan, steps=steps, notes=(_PLANNED[plan.language].format(name),))
        except (RemoteError, InputError, DelegateError) as error:
            # No plan, one that fails a check, more than the model's window, or a graph that does not run.
            reason = str(error)
            plan = replace(plan, notes=(*plan.notes, _UNUSABLE[plan.language].format(name)))
        return replace(plan, decision=_account(self._target, runs, plan.confidence, reason))


def _account(requested: str, runs: list[Decision], understood: float, reason: str) -> Decision:
    """Name the rules' rung before the model's own; one that never ran has the target that was asked for."""
    spoken = together(runs[-1], runs) if runs else None
    measured = Measured(latency_ms=0.0, bytes_in=0, bytes_out=0)
    if spoken is not None and spoken.measured is not None:
        measured = spoken.measured
    first = Rung(
        target=RULES, precision=EXACT, confidence=understood, reason=f"understood {understood:.0%} of the question"
    )
    second = Rung(
        target=spoken.target if spoken else requested,
        precision=spoken.precision if spoken else EXACT,
        confidence=None,
        reason=reason or "asked for a plan",
        latency_ms=measured.latency_ms,
        failed=bool(reason),
    )
    if spoken is None:
        spoken = Decision(requested=requested, target=RULES, precision=EXACT, model_hash="", measured=measured)
    if reason:
        return replace(spoken, target=RULES, precision=EXACT, model_hash="", rungs=(first, second))
    return replace(spoken, rungs=(first, second))
