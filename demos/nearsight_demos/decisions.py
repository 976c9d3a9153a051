"""What each answer decided, what was measured and proven here, and which targets there are, as pieces of a page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import nearsight_npu as npu
from nearsight_demos.cards import Html, joined, note, table, title
from nearsight_demos.chart import Point, chart

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearsight_demos.session import Session, Told

PROOFS, GRAPHS = 20, 12
FEW = 2  # texts that a cell shows without being unfolded


def answers(session: Session, say: Callable[..., str]) -> Html:
    """Show every answer's decision."""
    head = title(say("answers"))
    if not session.told:
        return joined(head, note(say("no answers")))
    keys = ("time", "tab", "asked", "ran", "placement", "predicted", "measured", "rungs", "rejected", "left")
    return joined(head, table([say(key) for key in keys], [_row(told, say) for told in list(session.told)]))


def _row(told: Told, say: Callable[..., str]) -> tuple[object, ...]:
    decision: dict[str, Any] = told.decision
    return (
        f"{told.time:%H:%M:%S}",
        say(told.tab),
        told.asked,
        Html(
            f"{escape(decision['requested'])}&nbsp;→&nbsp;{escape(decision['target'])}, "
            f"{escape(decision['precision'])}<br>{_hash(decision['model_hash'])}"
        ),
        decision["placement"] or "–",
        _cost(decision["predicted"]),
        _cost(decision["measured"]),
        "; ".join(_rung(rung) for rung in decision["rungs"]),
        _folded([_rejected(one) for one in decision["rejected"]]),
        "; ".join(decision["sent"]) or say("nothing left"),
    )


def _cost(found: dict[str, Any] | None) -> str:
    return f"{found['latency_ms']:.1f}" if found else "–"


def _folded(texts: list[str]) -> str:
    """Show a few texts, or how many there are, to be unfolded."""
    if len(texts) <= FEW:
        return "; ".join(texts) or "–"
    unfolded = "".join(f"<br>{escape(text)}" for text in texts)
    return Html(f"<details><summary>{len(texts)}</summary>{unfolded}</details>")


def _rejected(one: dict[str, Any]) -> str:
    """Say what was not taken, with its time where it was only slower."""
    what = f"{one['precision']} {one['target']}".strip()
    return f"{what}: {one['reason']}" if one["latency_ms"] is None else f"{what}: {one['latency_ms']:.1f} ms"


def _rung(rung: dict[str, Any]) -> str:
    sure = "" if rung["confidence"] is None else f" {rung['confidence']:.2f}"
    return f"{rung['target']} {rung['precision']}{sure}: {rung['reason']}"


def _hash(text: str) -> Html:
    return Html(f"<code title='{escape(text)}'>{escape(text[:8])}</code>")


def measurements(say: Callable[..., str]) -> Html:
    """Show what this machine measured: each graph's files by size and speed, and which one was taken."""
    head = title(say("measurements"))
    # The same graph may have been measured before, with other libraries: the last time counts.
    choices = {choice.name: choice for choice in npu.remembered_choices() if choice.trials}
    newest = list(reversed(list(choices.values())))[:GRAPHS]
    if not newest:
        return joined(head, note(say("no measurements")))
    points = [point for choice in newest for point in _points(choice, say)]
    keys = ("graph", "precision", "target", "setup", "MB", "ms", "outcome")
    rows = [row for choice in newest for row in _measured(choice, say)]
    picture = chart(points, say) if points else ""
    return joined(head, picture, table([say(key) for key in keys], rows))


def _points(choice: npu.Choice, say: Callable[..., str]) -> list[Point]:
    return [
        Point(
            graph=choice.name,
            precision=trial.precision,
            where=f"{trial.target}, {_setup(trial.setup, say)}",
            mb=choice.files[trial.precision][1],
            ms=trial.latency_ms,
            chosen=place == 0,
        )
        for place, trial in enumerate(choice.trials)
        if trial.times_ms
    ]


def _measured(choice: npu.Choice, say: Callable[..., str]) -> list[tuple[object, ...]]:
    """Give a row for each file on each target: those that may run, the taken one first, then the refused."""
    could = [
        (
            choice.name,
            trial.precision,
            trial.target,
            _setup(trial.setup, say),
            f"{choice.files[trial.precision][1]:.1f}",
            f"{trial.latency_ms:.2f}" if trial.times_ms else "–",
            Html(f"<b>{escape(say('taken'))}</b>") if place == 0 else say("slower"),
        )
        for place, trial in enumerate(choice.trials)
    ]
    could_not = [
        (choice.name, one.precision or "–", one.target, "–", "–", "–", say("refused", why=one.reason))
        for one in choice.refused
    ]
    return [*could, *could_not]


def _setup(setup: Any, say: Callable[..., str]) -> str:
    if setup is None:
        return "–"
    threads = say("own threads") if setup.threads is None else say("threads", count=setup.threads)
    return f"{threads}, {say('spinning')}" if setup.spinning else threads


def targets(say: Callable[..., str]) -> Html:
    """Show which targets this machine has, and why the others cannot be used."""
    rows = [
        (found.target, _usable(found, say), "; ".join(filter(None, (found.reason, found.remedy))))
        for found in npu.probe()
    ]
    return joined(title(say("targets")), table([say(key) for key in ("target", "available", "reason")], rows))


def _usable(found: npu.Availability, say: Callable[..., str]) -> str:
    if found.available and found.simulator:
        return say("by name")
    return say("yes" if found.available else "no")


def proofs(say: Callable[..., str]) -> Html:
    """Show the latest proofs, newest first."""
    rows = [
        (
            _hash(proof.model_hash),
            f"{proof.target} {proof.precision}",
            say("yes" if proof.passed else "no"),
            str(proof.proven_at)[:16].replace("T", " "),
        )
        for proof in reversed(npu.remembered_proofs()[-PROOFS:])
    ]
    heads = [say(key) for key in ("model", "target", "passed", "proven at")]
    return joined(title(say("proofs")), table(heads, rows))
