"""The tab Detect: things are found in a picture by their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

import nearsight as ns
from nearsight_demos.cards import note
from nearsight_demos.looking import found, labels_of
from nearsight_demos.models import NANO
from nearsight_demos.parts import model_input, on, picture_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearsight_demos.session import Session


def tab_detect(session: Session, say: Callable[..., str], indexed: Any) -> None:
    """Put down the tab."""
    usual = session.models.detector(NANO).default_min_score
    with gr.Tab(say("detect")) as tab, gr.Row():
        with gr.Column(scale=2, min_width=320):
            image = picture_input(session, say, tab, indexed)
            labels = gr.Textbox(say("labels default"), label=say("labels"), info=say("labels info"), max_length=500)
            least = gr.Slider(
                0.05, 1, usual, step=0.01, label=say("min score"), info=say("min score info", usual=usual), buttons=[]
            )
            model = model_input(session, say, tab, "detect")
            go = gr.Button(say("find"), variant="primary")
        with gr.Column(scale=3, min_width=360):
            drawn = gr.Image(
                label=say("boxes"), type="pil", format="jpeg", interactive=False, height=460, buttons=["fullscreen"]
            )
            told = gr.HTML()

    def find(path: str | None, text: str, lowest: float, name: str) -> tuple[Any, str]:
        asked = labels_of(text)
        if path is None or not asked:
            return None, note(say("give picture" if path is None else "no labels"))
        picture = ns.read_image(Path(path))
        detector = session.models.detector(name)
        # The slider shows the default rounded; at rest it leaves the exact one to the detector.
        rests = abs(lowest - detector.default_min_score) < 0.005
        answer = detector.detect(picture, asked, None if rests else lowest)
        session.record("detect", f"{Path(path).name}: {', '.join(asked)}", answer.decision)
        return ns.draw(picture, answer), found(answer, say)

    def change(name: str) -> gr.Slider:
        usual = session.models.detector(name).default_min_score
        info = say("min score info" if name == NANO else "min score usual", usual=usual)
        return gr.Slider(value=usual, info=info)

    asked = [image, labels, least, model]
    turned = on(model.input, change, model, least)
    on(turned.then, find, asked, [drawn, told])
    for event in (go.click, labels.submit, least.release):
        on(event, find, asked, [drawn, told])
    # A picture that is put down is looked at, with the labels that stand there.
    on(image.change, lambda path, *rest: find(path, *rest) if path else (None, ""), asked, [drawn, told])
