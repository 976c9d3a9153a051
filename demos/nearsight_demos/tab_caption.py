"""The tab Caption: a picture is described in each language that the model writes, or a question about it answered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

import nearsight as ns
from nearsight_demos.cards import note
from nearsight_demos.looking import described, replied
from nearsight_demos.parts import model_input, on, picture_input
from nearsight_demos.words import LANGUAGES

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearsight_demos.session import Session


def tab_caption(session: Session, say: Callable[..., str], indexed: Any) -> None:
    """Put down the tab."""
    with gr.Tab(say("caption")) as tab, gr.Row():
        with gr.Column(scale=2, min_width=320):
            image = picture_input(session, say, tab, indexed)
            model = model_input(session, say, tab, "caption")
            go = gr.Button(say("describe"), variant="primary")
            question = gr.Textbox(label=say("ask picture"), max_length=300, lines=1, max_lines=1, visible=False)
        with gr.Column(scale=3, min_width=360):
            answer = gr.HTML(min_height=200)

    def describe(path: str | None, name: str) -> str:
        if path is None:
            return note(say("give picture"))
        captioner = session.models.captioner(name)
        captions = [
            captioner.caption(Path(path), language) for language in LANGUAGES if language in captioner.languages
        ]
        for caption in captions:
            session.record("caption", f"{Path(path).name} ({caption.language})", caption.decision)
        return described(captions, say)

    def reply(path: str | None, name: str, text: str) -> str:
        if path is None:
            return note(say("give picture"))
        said = session.models.captioner(name).answer(Path(path), text)
        session.record("caption", f"{Path(path).name}: {text}", said.decision)
        return replied(said, say)

    def see(path: str | None, name: str) -> str:
        """Describe what was put down; of a model that does not, say so in its place."""
        try:
            return describe(path, name) if path else ""
        except ns.InputError as error:
            return note(str(error))

    asked = [image, model]
    on(question.submit, reply, [*asked, question], answer)
    on(model.input, lambda name: gr.Textbox(visible=session.models.captioner(name).answers), model, question)
    on(go.click, describe, asked, answer)
    for event in (image.change, model.input):
        on(event, see, asked, answer)
