"""The tab Delegate: what each answer decided, which targets there are, and what was proven here."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

import nearsight_npu as npu
from nearsight_demos.cards import Html, joined, note, table, title
from nearsight_demos.parts import on

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearsight_demos.session import Session, Told

PROOFS = 20


def tab_delegate(session: Session, say: Callable[..., str]) -> None:
    """Put down the tab."""
    with gr.Tab(say("delegate")) as tab:
        shown = gr.HTML()
        again = gr.Button(say("refresh"), size="sm")

    def show() -> str:
        return joined(answers(session, say), targets(say), proofs(say))

    on(tab.select, show, None, shown)
    on(again.click, show, None, shown)


def answers(session: Session, say: Callable[..., str]) -> Html:
    """Show every answer's decision."""
    head = title(say("answers"))
    if not session.told:
        return joined(head, note(say("no answers")))
    keys = ("time", "tab", "asked", "target", "precision", "model", "ms", "rungs", "rejected", "left")
    return joined(head, table([say(key) for key in keys], [_row(told, say) for told in list(session.told)]))


def _row(told: Told, say: Callable[..., str]) -> tuple[object, ...]:
    decision: dict[str, Any] = told.decision
    measured = decision["measured"]
    return (
        f"{told.time:%H:%M:%S}",
        say(told.tab),
        told.asked,
        f"{decision['requested']}\u00a0→\u00a0{decision['target']}",
        decision["precision"],
        _hash(decision["model_hash"]),
        f"{measured['latency_ms']:.1f}" if measured else "",
        "; ".join(_rung(rung) for rung in decision["rungs"]),
        "; ".join(f"{one['target']} {one['precision']}: {one['reason']}" for one in decision["rejected"]) or "–",
        "; ".join(decision["sent"]) or say("nothing left"),
    )


def _rung(rung: dict[str, Any]) -> str:
    sure = "" if rung["confidence"] is None else f" {rung['confidence']:.2f}"
    return f"{rung['target']} {rung['precision']}{sure}: {rung['reason']}"


def _hash(text: str) -> Html:
    return Html(f"<code title='{escape(text)}'>{escape(text[:8])}</code>")


def targets(say: Callable[..., str]) -> Html:
    """Show which targets this machine has, and why the others cannot be used."""
    rows = [
        (found.target, say("yes" if found.available else "no"), "; ".join(filter(None, (found.reason, found.remedy))))
        for found in npu.probe()
    ]
    return joined(title(say("targets")), table([say(key) for key in ("target", "available", "reason")], rows))


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
