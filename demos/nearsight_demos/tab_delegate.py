"""The tab Delegate: what each answer decided, what was measured and proven here, and which targets there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from nearsight_demos.cards import joined
from nearsight_demos.decisions import answers, measurements, proofs, targets
from nearsight_demos.parts import on

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearsight_demos.session import Session


def tab_delegate(session: Session, say: Callable[..., str]) -> None:
    """Put down the tab."""
    with gr.Tab(say("delegate")) as tab:
        shown = gr.HTML()
        again = gr.Button(say("refresh"), size="sm")

    def show() -> str:
        return joined(answers(session, say), measurements(say), targets(say), proofs(say))

    on(tab.select, show, None, shown)
    on(again.click, show, None, shown)
