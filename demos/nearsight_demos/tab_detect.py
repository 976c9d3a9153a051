"""The tab Detect: things are found in a picture by their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

import nearsight as ns
from nearsight_demos.cards import note
from nearsight_demos.looking import found, labels_of
from nearsight_demos.parts import on, picture_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearsight_demos.session import Session


def tab_detect(session: Session, say: Callable[..., str], indexed: Any) -> None:
    """Put down the tab."""
    usual = session.detector.default_min_score
    with gr.Tab(say("detect")) as tab, gr.Row():
        with gr.Column(scale=2, min_width=320):
            image = picture_input(session, say, tab, indexed)
            labels = gr.Textbox(say("labels default"), label=say("labels"), info=say("labels info"), max_length=500)
            least = gr.Slider(
                0.05, 1, usual, step=0.01, label=say("min score"), info=say("min score info", usual=usual), buttons=[]
            )
            go = gr.Button(say("find"), variant="primary")
        with gr.Column(scale=3, min_width=360):
            drawn = gr.Image(
                label=say("boxes"), type="pil", format="jpeg", interactive=False, height=460, buttons=["fullscreen"]
            )
            told = gr.HTML()

    def find(path: str | None, text: str, lowest: float) -> tuple[Any, str]:
        asked = labels_of(text)
        if path is None or not asked:
            return None, note(say("give picture" if path is None else "no labels"))
        picture = ns.read_image(Path(path))
        # The slider shows the calibrated default rounded; at rest it leaves the exact one to the detector.
        answer = session.detector.detect(picture, asked, None if abs(lowest - usual) < 0.005 else lowest)
        session.record("detect", f"{Path(path).name}: {', '.join(asked)}", answer.decision)
        return ns.draw(picture, answer), found(answer, say)

    asked = [image, labels, least]
    for event in (go.click, labels.submit, least.release):
        on(event, find, asked, [drawn, told])
    # A picture that is put down is looked at, with the labels that stand there.
    on(image.change, lambda path, *rest: find(path, *rest) if path else (None, ""), asked, [drawn, told])
