"""The tab Search: photographs are indexed, and found by a sentence."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

import nearsight as ns
from nearsight_demos.cards import note, results
from nearsight_demos.parts import examples, filled, on
from nearsight_demos.session import GIVEN, OWN, UPLOADS

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearsight_demos.session import Session

HITS = 12


def tab_search(session: Session, say: Callable[..., str], language: str, page: gr.Blocks) -> Any:
    """Put down the tab; gives the event of the folder being indexed when the page opens."""
    usual = session.encoder.default_min_relevance
    with gr.Tab(say("search")) as tab, gr.Row():
        with gr.Column(scale=1, min_width=280, elem_classes="ns-side"):
            where = gr.Radio([], label=say("where"), visible=False)
            gr.HTML(note(say("lent"), command=OWN), visible=session.lent)
            state = gr.HTML(note(say("none yet"), command=OWN))
            again = gr.Button(say("index again"), size="sm", visible=session.folder is not None)
            uploads = gr.File(label=say("upload"), file_count="multiple", file_types=["image"], height=150)
            least = gr.Slider(
                0, 1, usual, step=0.01, label=say("threshold"), info=say("threshold info", usual=usual), buttons=[]
            )
            with gr.Accordion(say("filters"), open=False, visible=False) as filters:
                camera = gr.Dropdown([], label=say("camera"))
                after = gr.Textbox(label=say("after"), placeholder="2026-05-01")
                before = gr.Textbox(label=say("before"), placeholder="2026-06-01")
        with gr.Column(scale=3):
            with gr.Row(elem_classes="ns-ask"):
                text = gr.Textbox(
                    label=say("query"), placeholder=say("query example"), max_length=300, scale=5, lines=1, max_lines=1
                )
                go = gr.Button(say("go"), variant="primary", min_width=110)
            row = examples(say, text)
            answer = gr.HTML(min_height=200)

    def index(key: str, paths: list[Path], progress: gr.Progress) -> tuple[Any, ...]:
        def advance(now: ns.Progress) -> None:
            progress((now.done, now.total), desc=say("indexing"))

        report = session.add(key, paths, advance)
        same = report.unchanged + report.renamed
        counts = {"new": report.added + report.changed, "same": same, "failed": len(report.failed)}
        return (note(say("indexed", seconds=report.seconds, **counts)), *look(key))

    def look(key: str | None) -> tuple[Any, ...]:
        """Say which galleries there are, and what the chosen one can be narrowed by."""
        choices = session.choices(say)
        keys = [choice for _, choice in choices]
        chosen = key if key in keys else next(iter(keys), None)
        stats = session.gallery(chosen).stats() if chosen else None
        cameras = [name for name in stats.cameras if name] if stats else []
        narrowed = bool(cameras or (stats and stats.oldest))
        return (
            gr.Radio(choices=choices, value=chosen, visible=bool(choices)),
            gr.Accordion(visible=narrowed),
            gr.Dropdown(choices=[(say("any camera"), ""), *cameras], value=""),
        )

    def index_folder(progress: gr.Progress = gr.Progress()) -> tuple[Any, ...]:  # noqa: B008  (Gradio's way)
        if session.folder is None:
            key = GIVEN if session.choices(say) else None
            return (gr.HTML(visible=key is None), *look(key))
        return index(GIVEN, [session.folder], progress)

    def index_uploads(files: list[str] | None, progress: gr.Progress = gr.Progress()) -> tuple[Any, ...]:  # noqa: B008
        if not files:
            return (gr.skip(), *look(None))
        return index(UPLOADS, [Path(file) for file in files], progress)

    def find(key: str | None, words: str, lowest: float, name: str | None, start: str, end: str) -> str:
        if not words.strip():
            return note(say("ask something"))
        if key is None:
            return note(say("none yet"), command=OWN)
        search = partial(
            session.gallery(key).search, words, camera=name or None, after=start or None, before=end or None
        )
        hits = search(k=HITS, min_relevance=lowest)
        session.record("search", words, hits.decision)
        return results(hits, hits or search(k=1, min_relevance=0), say)

    def offer(key: str | None) -> gr.Dataset:
        found = session.offer(key, language)
        return filled(found.questions if found else ())

    seen = [where, filters, camera]
    asked = [where, text, least, camera, after, before]
    opened = on(page.load, index_folder, None, [state, *seen])
    on(again.click, index_folder, None, [state, *seen])
    added = on(uploads.upload, index_uploads, uploads, [state, *seen])
    turned = on(tab.select, look, where, seen, show_progress="hidden")
    chosen = on(where.input, look, where, seen, show_progress="hidden")
    for event in (opened, added, turned, chosen):
        on(event.then, offer, where, row, show_progress="hidden")
    for event in (text.submit, go.click, least.release):
        on(event, find, asked, answer)
    return opened
