"""What an agent plans, does and answers: frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearsight.values import Hit
    from nearsight_npu import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call of a tool, as planned or as done.

    Attributes:
        tool: name of the tool.
        arguments: by name.
        note: how the question was understood where it left something open.
        if_found: whether it is taken only if the step before found something.
        source: who planned it: "rules" or "remote".
        status: "planned", "done", "refused" (no approval), "failed" (see the error in `result`) or "skipped" (see
            `if_found`).
        result: what came of it, as JSON-able values.
        found: how many things it found.
        latency_ms: how long it took, in milliseconds; None for a step that was not taken.
        items: the hits behind it.
        decision: the account of its model call; None where no model ran.
    """

    tool: str
    arguments: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    if_found: bool = False
    source: str = "rules"
    status: str = "planned"
    result: Any = None
    found: int = 0
    latency_ms: float | None = None
    items: tuple[Hit, ...] = ()
    decision: Decision | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give the step in the form of `nearsight ask --json`."""
        names = ("tool", "arguments", "result", "status", "note", "source", "latency_ms")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a planner made of a question.

    Attributes:
        steps: in order.
        language: of the question, "en" or "zh".
        intent: what kind of question it is: "find", "exists", "count", "what", "describe", "detect", "notify", "tool",
            or "beyond" for one that no tool answers.
        confidence: share of the question that was understood, 0 to 1.
        notes: how open wordings were taken, and what was not understood.
        decision: how the plan came about, where more than the rules took part.
    """

    steps: tuple[Step, ...]
    language: str
    intent: str
    confidence: float
    notes: tuple[str, ...] = ()
    decision: Decision | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an agent answers.

    Attributes:
        text: the answer in the language of the question, with what was looked at and how sure it is.
        language: "en" or "zh".
        items: the hits behind it, best first.
        steps: what was done for it, with results and milliseconds.
        decision: how it came about: the planner's rung, then those of the last model call.
        confidence: how much of the question was understood, 0 to 1.
        notes: how open wordings were taken.
    """

    text: str
    language: str
    items: tuple[Hit, ...]
    steps: tuple[Step, ...]
    decision: Decision
    confidence: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give the answer in the form of `nearsight ask --json`."""
        return {
            "answer": self.text,
            "language": self.language,
            "confidence": self.confidence,
            "notes": list(self.notes),
            "items": [hit.to_dict() for hit in self.items],
            "steps": [step.to_dict() for step in self.steps],
            "decision": self.decision.to_dict(),
        }
