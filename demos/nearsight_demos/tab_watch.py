"""The tab Watch: things are followed through a clip and counted over a line."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from nearsight_demos.cards import Html, joined, note, picture, table, title
from nearsight_demos.looking import labels_of
from nearsight_demos.parts import on
from nearsight_demos.session import WATCHED
from nearsight_demos.watching import Seen, Watching, Wish, preview, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nearsight_demos.session import Session

SHOWN = 60


def tab_watch(session: Session, say: Callable[..., str]) -> None:
    """Put down the tab."""
    clips = {path.name: path for path in session.clips()}
    with gr.Tab(say("watch")), gr.Row():
        with gr.Column(scale=2, min_width=320):
            files = gr.File(label=say("source"), file_count="multiple", file_types=["video", "image"], height=150)
            clip = gr.Dropdown(["", *clips], value="", label=say("clip"), visible=bool(clips))
            labels = gr.Textbox(say("watch labels"), label=say("labels"), info=say("labels info"), max_length=500)
            camera = gr.Textbox("gate-1", label=say("camera name"), max_length=60)
            gr.HTML(title(say("line")))
            with gr.Group():
                with gr.Row():
                    x1, y1 = (_percent(say(key), value) for key, value in (("from x", 0), ("from y", 50)))
                with gr.Row():
                    x2, y2 = (_percent(say(key), value) for key, value in (("to x", 100), ("to y", 50)))
            with gr.Row():
                fps = gr.Slider(1, 30, 15, step=1, label=say("fps"), min_width=120, buttons=[])
                most = gr.Slider(10, 2000, 400, step=10, label=say("most"), min_width=120, buttons=[])
        with gr.Column(scale=3, min_width=360):
            first = gr.Image(
                label=say("first frame"), type="pil", format="jpeg", interactive=False, height=330, buttons=[]
            )
            with gr.Row():
                start = gr.Button(say("start"), variant="primary")
                stop = gr.Button(say("stop"))
            told = gr.HTML(min_height=120)

    def source(paths: list[str] | None, name: str | None) -> Path | None:
        return source_of(paths, session.home) if paths else clips.get(name or "")

    def show(paths: list[str] | None, name: str | None, *ends: float) -> Any:
        place = source(paths, name)
        return None if place is None else preview(place, _shares(ends))

    def run(
        paths: list[str] | None, name: str | None, text: str, called: str, rate: float, frames: float, *ends: float
    ) -> Iterator[str]:
        place, asked = source(paths, name), tuple(labels_of(text))
        if place is None or not asked:
            yield note(say("give source" if place is None else "no labels"))
            return
        wish = Wish(source=place, camera=called, labels=asked, ends=_shares(ends), fps=rate, most=int(frames))
        session.watching = Watching(wish, session.home)
        for seen in session.watching.seen():
            yield events(seen, say)
        if seen.events:
            session.open(WATCHED, seen.folder / "events.nsg", read_only=True)
        if seen.summary is not None:
            session.record("watch", f"{called}: {', '.join(asked)}", seen.summary["decision"])

    def end() -> None:
        if session.watching is not None:
            session.watching.stop()

    where, ends = [files, clip], [x1, y1, x2, y2]
    for event in (files.upload, files.clear, clip.input, *(end.release for end in ends)):
        on(event, show, [*where, *ends], first, show_progress="hidden")
    on(start.click, run, [*where, labels, camera, fps, most, *ends], told)
    on(stop.click, end, show_progress="hidden")


def _percent(name: str, value: float) -> gr.Slider:
    return gr.Slider(0, 100, value, step=1, label=name, min_width=110, buttons=[])


def _shares(ends: tuple[float, ...]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (end / 100 for end in ends)
    return x1, y1, x2, y2


def events(seen: Seen, say: Callable[..., str]) -> Html:
    """Show counts and events, the latest first."""
    summary = seen.summary
    n = len(seen.events)
    if summary is None:
        head = note(say("stopped" if seen.stopped else "watching", n=n))
    else:
        told = {"frames": summary["frames"], "seconds": summary["seconds"], "rate": summary["frames_per_s"]}
        head = note(say("done", n=n, **told))
    if not seen.events:
        return joined(head, note(say("no events")) if summary else "")
    counts = table([say(key) for key in ("label", "appeared", "in", "out")], seen.counts())
    rows = [_row(seen, event, say) for event in reversed(seen.events[-SHOWN:])]
    heads = [say(key) for key in ("thumbnail", "time", "label", "event", "score")]
    return joined(
        head, say("ask about") if summary or seen.stopped else "", counts, title(say("events")), table(heads, rows)
    )


def _row(seen: Seen, event: dict[str, Any], say: Callable[..., str]) -> tuple[object, ...]:
    what = say(event["event"])
    if event["direction"]:
        what = f"{what}: {say(event['direction'])}"
    moment = f"{datetime.fromisoformat(event['time']):%H:%M:%S.%f}"[:-5]
    return (
        picture(seen.folder / event["thumbnail"], say),
        moment,
        f"{event['label']} {event['track']}",
        what,
        event["score"],
    )
