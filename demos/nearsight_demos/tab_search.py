"""The tab Search: photographs are indexed, and found by a sentence."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

import nearsight as ns
from nearsight_demos.cards import Html, note, results
from nearsight_demos.parts import examples, filled, model_input, on
from nearsight_demos.session import GIVEN, OWN, UPLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nearsight_demos.session import Session

HITS = 12
# The slider shows a threshold rounded: this near to it, it is at rest, and the model's exact one holds.
RESTS = 0.005


def tab_search(session: Session, say: Callable[..., str], language: str, page: gr.Blocks) -> Any:
    """Put down the tab; gives the event of the folder being indexed when the page opens."""
    usual = session.usual_relevance(None)
    with gr.Tab(say("search")) as tab, gr.Row():
        with gr.Column(scale=1, min_width=280, elem_classes="ns-side"):
            where = gr.Radio([], label=say("where"), visible=False)
            gr.HTML(note(say("lent"), command=OWN), visible=session.lent)
            state = gr.HTML(note(say("none yet"), command=OWN))
            again = gr.Button(say("index again"), size="sm", visible=session.folder is not None)
            uploads = gr.File(label=say("upload"), file_count="multiple", file_types=["image"], height=150)
            model = model_input(session, say, tab, "search")
            least = gr.Slider(
                0, 1, round(usual, 2), step=0.01, label=say("threshold"), info=threshold(usual, say), buttons=[]
            )
            stands = gr.State(usual)
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

    def advance(progress: gr.Progress, now: ns.Progress) -> None:
        progress((now.done, now.total), desc=say("indexing"))

    def index(key: str, level: float, paths: list[Path], progress: gr.Progress) -> tuple[Any, ...]:
        return (counted([session.add(key, paths, partial(advance, progress))], say), *look(key, level))

    def look(key: str | None, level: float) -> tuple[Any, ...]:
        """Say which galleries there are, what the chosen one can be narrowed by, and from where on it is relevant."""
        choices = session.choices(say)
        keys = [choice for _, choice in choices]
        chosen = key if key in keys else next(iter(keys), None)
        stats = session.gallery(chosen).stats() if chosen else None
        cameras = [name for name in stats.cameras if name] if stats else []
        narrowed = bool(cameras or (stats and stats.oldest))
        usual = session.usual_relevance(chosen)
        return (
            gr.Radio(choices=choices, value=chosen, visible=bool(choices)),
            gr.Accordion(visible=narrowed),
            gr.Dropdown(choices=[(say("any camera"), ""), *cameras], value=""),
            # Where somebody has put the slider it stays, unless another model counts otherwise.
            gr.skip() if usual == level else gr.Slider(value=round(usual, 2), info=threshold(usual, say)),
            usual,
        )

    def use(name: str, key: str | None, level: float, progress: gr.Progress = gr.Progress()) -> tuple[Any, ...]:  # noqa: B008  (Gradio's way)
        reports = session.use(name, partial(advance, progress))
        if key is not None and (own := session.made_with(key)) != name:
            folder, place = shlex.quote(str(session.folder or "FOLDER")), shlex.quote(str(session.gallery(key).path))
            command = f"nearsight index {folder} --gallery {place} --encoder {name}"
            return (note(say("own model", name=own), command=command), *look(key, level))
        return (counted(reports, say) if reports else gr.skip(), *look(key, level))

    def index_folder(level: float, progress: gr.Progress = gr.Progress()) -> tuple[Any, ...]:  # noqa: B008
        if session.folder is None:
            key = GIVEN if session.choices(say) else None
            return (gr.HTML(visible=key is None), *look(key, level))
        return index(GIVEN, level, [session.folder], progress)

    def index_uploads(files: list[str] | None, level: float, progress: gr.Progress = gr.Progress()) -> tuple[Any, ...]:  # noqa: B008
        if not files:
            return (gr.skip(), *look(None, level))
        return index(UPLOADS, level, [Path(file) for file in files], progress)

    def find(key: str | None, words: str, lowest: float, name: str | None, start: str, end: str) -> str:
        if not words.strip():
            return note(say("ask something"))
        if key is None:
            return note(say("none yet"), command=OWN)
        search = partial(
            session.gallery(key).search, words, camera=name or None, after=start or None, before=end or None
        )
        hits = search(k=HITS, min_relevance=None if abs(lowest - session.usual_relevance(key)) < RESTS else lowest)
        session.record("search", words, hits.decision)
        return results(hits, hits or search(k=1, min_relevance=0), say)

    def offer(key: str | None) -> gr.Dataset:
        found = session.offer(key, language)
        return filled(found.questions if found else ())

    seen = [where, filters, camera, least, stands]
    asked = [where, text, least, camera, after, before]
    opened = on(page.load, index_folder, stands, [state, *seen])
    on(again.click, index_folder, stands, [state, *seen])
    added = on(uploads.upload, index_uploads, [uploads, stands], [state, *seen])
    changed = on(model.input, use, [model, where, stands], [state, *seen])
    turned = on(tab.select, look, [where, stands], seen, show_progress="hidden")
    chosen = on(where.input, look, [where, stands], seen, show_progress="hidden")
    for event in (opened, added, changed, turned, chosen):
        on(event.then, offer, where, row, show_progress="hidden")
    for event in (text.submit, go.click, least.release):
        on(event, find, asked, answer)
    return opened


def counted(reports: Sequence[ns.AddReport], say: Callable[..., str]) -> Html:
    """Say what was indexed."""
    counts = {
        "new": sum(report.added + report.changed for report in reports),
        "same": sum(report.unchanged + report.renamed for report in reports),
        "failed": sum(len(report.failed) for report in reports),
    }
    return note(say("indexed", seconds=sum(report.seconds for report in reports), **counts))


def threshold(usual: float, say: Callable[..., str]) -> str:
    """Say what the slider's usual place is worth."""
    return say("threshold info", usual=usual) if usual > RESTS else say("threshold free")
