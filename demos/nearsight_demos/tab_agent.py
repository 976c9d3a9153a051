"""The tab Agent: a question, the plan, what was done, the answer; messages wait for an approval."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

import nearsight as ns
from nearsight_demos.cards import Html, cards, joined, note, table, title
from nearsight_demos.parts import examples, filled, on
from nearsight_demos.session import OWN, Glasses
from nearsight_demos.subjects import asking

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nearsight_demos.session import Session


def tab_agent(session: Session, say: Callable[..., str], language: str) -> None:
    """Put down the tab."""
    with gr.Tab(say("agent")) as tab:
        where = gr.Radio([], label=say("where"))
        with gr.Row(elem_classes="ns-ask"):
            question = gr.Textbox(label=say("question"), max_length=300, scale=6, lines=1, max_lines=1)
            go = gr.Button(say("ask"), variant="primary", min_width=110)
            plan = gr.Button(say("plan"), min_width=150)
        row = examples(say, question)
        answer = gr.HTML()
        approve = gr.Button(say("approve"), variant="primary", visible=False)
        behind = gr.HTML(min_height=120)
        waiting = gr.State([])

    def look(key: str | None) -> Any:
        choices = session.choices(say)
        keys = [choice for _, choice in choices]
        return gr.Radio(choices=choices, value=key if key in keys else next(iter(keys), None))

    def offer(key: str | None) -> gr.Dataset:
        found = session.offer(key, language)
        return filled(asking(found, language, say) if found else ())

    def made(key: str, sent: list[str], approved: Sequence[str] = ()) -> ns.Agent:
        glasses = Glasses(session, key)
        return ns.Agent(
            gallery=session.gallery(key),
            detector=glasses,
            captioner=glasses,
            notify=sent.append,
            # Only the messages that were shown are approved, and only for this one time.
            approve=lambda step: step.arguments.get("message") in approved,
        )

    def show_plan(key: str | None, text: str) -> tuple[Any, ...]:
        if key is None:
            return note(say("none yet"), command=OWN), gr.Button(visible=False), "", []
        made_up = joined(title(say("planned")), steps(made(key, []).plan(text), say))
        return "", gr.Button(visible=False), made_up, []

    def ask(key: str | None, text: str, approved: Sequence[str] = ()) -> tuple[Any, ...]:
        if key is None:
            return note(say("none yet"), command=OWN), gr.Button(visible=False), "", []
        sent: list[str] = []
        found = made(key, sent, approved).run(text)
        session.record("agent", text, found.decision)
        wanted = [step.arguments["message"] for step in found.steps if step.status == "refused"]
        shown = cards(found.items, say) if found.items else ""
        trace = joined(shown, title(say("trace")), steps(found.steps, say))
        return answered(found, sent, wanted, say), gr.Button(visible=bool(wanted)), trace, wanted

    asked, shown = [where, question], [answer, approve, behind, waiting]
    turned = on(tab.select, look, where, where, show_progress="hidden")
    for event in (turned.then, where.input):
        on(event, offer, where, row, show_progress="hidden")
    on(question.submit, ask, asked, shown, show_progress_on=[behind])
    on(go.click, ask, asked, shown, show_progress_on=[behind])
    on(plan.click, show_plan, asked, shown, show_progress_on=[behind])
    on(approve.click, ask, [*asked, waiting], shown, show_progress_on=[behind])


def answered(found: ns.Answer, sent: Sequence[str], wanted: Sequence[str], say: Callable[..., str]) -> Html:
    """Show an answer and what became of its messages."""
    notes = " · ".join((say("understood", share=found.confidence), *found.notes))
    return joined(
        Html(f"<p class='ns-answer' lang='{found.language}'>{escape(found.text)}</p>"),
        Html(f"<p class='ns-small'>{escape(notes)}</p>"),
        *(note(say("wants", message=message), "ns-caution") for message in wanted),
        *(note(say("sent", message=message)) for message in sent),
    )


def steps(taken: Sequence[ns.Step], say: Callable[..., str]) -> Html:
    """Show the steps of a plan, or of what was done."""
    heads = [say(key) for key in ("step", "arguments", "status", "matches", "ms")]
    return table(heads, [_row(step) for step in taken])


def _row(step: ns.Step) -> tuple[object, ...]:
    given = {name: value for name, value in step.arguments.items() if value not in ("", [])}
    why = step.result.get("error", "") if isinstance(step.result, dict) else ""
    return (
        step.tool,
        Html(f"<code>{escape(json.dumps(given, ensure_ascii=False))}</code>"),
        f"{step.status}: {why}" if why else step.status,
        step.found if step.status == "done" else "",
        "" if step.latency_ms is None else f"{step.latency_ms:.1f}",
    )
