"""What several tabs share: a picture to work on, and errors said on the page."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

import nearsight as ns
from nearsight_demos.models import NANO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nearsight_demos.session import Session


def told(action: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap what an event does so that an error of ours is said on the page, in its one line."""

    @functools.wraps(action)
    def once(*args: Any) -> Any:
        try:
            return action(*args)
        except ns.NearsightError as error:
            raise _said(error) from error

    @functools.wraps(action)
    def bit_by_bit(*args: Any) -> Iterator[Any]:
        try:
            yield from action(*args)
        except ns.NearsightError as error:
            raise _said(error) from error

    return bit_by_bit if inspect.isgeneratorfunction(action) else once


def _said(error: ns.NearsightError) -> gr.Error:
    return gr.Error(str(error), duration=None, title="Nearsight", print_exception=False)


def on(event: Any, action: Callable[..., Any], inputs: Any = None, outputs: Any = None, **options: Any) -> Any:
    """Do something at an event of the page; it is no interface for programs."""
    return event(told(action), inputs, outputs, api_visibility="private", **options)


def picture_input(session: Session, say: Callable[..., str], tab: gr.Tab, indexed: Any) -> gr.Image:
    """Put down a place for a picture, and a few of the gallery's to choose from."""
    image = gr.Image(
        label=say("picture"), type="filepath", sources=["upload", "clipboard"], height=360, image_mode=None, buttons=[]
    )
    shelf = gr.Gallery(
        label=say("samples"), columns=4, height=262, allow_preview=False, object_fit="cover", interactive=False,
        buttons=[], elem_classes="ns-shelf", visible=False,
    )  # fmt: skip
    offered = gr.State([])

    def offer() -> tuple[Any, list[str]]:
        paths = session.samples()
        pictures = []
        for path in paths:
            small = ns.read_image(path, size_hint=(240, 240))
            small.thumbnail((240, 240))
            pictures.append(small)
        return gr.Gallery(value=pictures, visible=bool(pictures), selected_index=None), [str(path) for path in paths]

    def take(paths: list[str], event: gr.SelectData) -> str:
        return str(session.served(Path(paths[event.index])))

    # Gradio looks at the annotation to know that the event itself is wanted.
    take.__annotations__["event"] = gr.SelectData
    for event in (tab.select, indexed.then):
        on(event, offer, None, [shelf, offered], show_progress="hidden")
    on(shelf.select, take, offered, image, show_progress="hidden")
    return image


def model_input(session: Session, say: Callable[..., str], tab: gr.Tab, capability: str) -> gr.Dropdown:
    """Put down a choice among the models of this machine that serve a capability."""
    choice = gr.Dropdown(
        session.models.names(capability),
        value=NANO,
        label=say("model choice"),
        info=say("more models"),
        interactive=True,
    )

    def offer(chosen: str) -> gr.Dropdown:
        names = session.models.names(capability)
        broken = session.models.broken
        info = say("broken models", why="; ".join(broken.values())) if broken else say("more models")
        return gr.Dropdown(choices=names, value=chosen if chosen in names else NANO, info=info)

    on(tab.select, offer, choice, choice, show_progress="hidden")
    return choice


def examples(say: Callable[..., str], text: gr.Textbox) -> gr.Dataset:
    """Put down a row of questions that a click takes over; `filled` says which."""
    row = gr.Dataset(components=[text], samples=[], type="values", label=say("examples"), visible=False)
    on(row.click, lambda sample: sample[0], row, text, show_progress="hidden")
    return row


def filled(questions: Iterable[str]) -> gr.Dataset:
    """Give a row of questions its questions."""
    samples = [[question] for question in questions]
    return gr.Dataset(samples=samples, visible=bool(samples))
