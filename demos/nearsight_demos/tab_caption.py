"""The tab Caption: a picture is described in both languages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from nearsight_demos.cards import note
from nearsight_demos.looking import described
from nearsight_demos.parts import on, picture_input
from nearsight_demos.words import LANGUAGES

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearsight_demos.session import Session


def tab_caption(session: Session, say: Callable[..., str], indexed: Any) -> None:
    """Put down the tab."""
    with gr.Tab(say("caption")) as tab, gr.Row():
        with gr.Column(scale=2, min_width=320):
            image = picture_input(session, say, tab, indexed)
            go = gr.Button(say("describe"), variant="primary")
        with gr.Column(scale=3, min_width=360):
            answer = gr.HTML(min_height=200)

    def describe(path: str | None) -> str:
        if path is None:
            return note(say("give picture"))
        captions = [session.captioner.caption(Path(path), language) for language in LANGUAGES]
        for caption in captions:
            session.record("caption", f"{Path(path).name} ({caption.language})", caption.decision)
        return described(captions, say)

    on(go.click, describe, image, answer)
    on(image.change, lambda path: describe(path) if path else "", image, answer)
