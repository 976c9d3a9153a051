"""The pages of `nearsight demo`: one for each language, a tab for each capability."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
from starlette.middleware import Middleware

import nearsight as ns
from nearsight_demos.gate import Gate
from nearsight_demos.tab_agent import tab_agent
from nearsight_demos.tab_caption import tab_caption
from nearsight_demos.tab_delegate import tab_delegate
from nearsight_demos.tab_detect import tab_detect
from nearsight_demos.tab_search import tab_search
from nearsight_demos.tab_watch import tab_watch
from nearsight_demos.words import LANGUAGES, speaker

if TYPE_CHECKING:
    from nearsight_demos.session import Session

STYLE = Path(__file__).with_name("page.css")
EVERYWHERE = {"0.0.0.0", "::", ""}
# The font that Gradio carries; its "SemiBold" holds 55 letters only, so that bold is taken in its place.
FONT, WEIGHTS = "Source Sans Pro", (400, 700)
FONTS = ("ui-sans-serif", "system-ui", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "sans-serif")


def assembled(session: Session, language: str) -> gr.Blocks:
    """Put the pages together: the language given first, the others beside it."""
    others = [other for other in LANGUAGES if other != language]
    with gr.Blocks(title="Nearsight", analytics_enabled=False, fill_width=True) as pages:
        _page(session, language, language, pages)
    for other in others:
        with pages.route(LANGUAGES[other], other) as page:
            _page(session, other, language, page)
    return pages


def _page(session: Session, language: str, first: str, page: gr.Blocks) -> None:
    say = speaker(language)
    gr.Navbar(main_page_name=LANGUAGES[first])
    gr.HTML(f"<div class='ns-top'><h1>Nearsight</h1><p>{escape(say('motto'))}</p></div>")
    with gr.Tabs():
        indexed = tab_search(session, say, language, page)
        tab_detect(session, say, indexed)
        tab_caption(session, say, indexed)
        tab_agent(session, say, language)
        tab_watch(session, say)
        tab_delegate(session, say)


def launched(session: Session, *, language: str, host: str, port: int | None) -> tuple[gr.Blocks, str]:
    """Serve the pages from a thread of their own.

    Args:
        session: what is behind them.
        language: "en" or "zh".
        host: address to listen on.
        port: port; None for the first that is free from 7860 on.

    Returns:
        The pages, to be closed, and the address of the first.

    Raises:
        InputError: If the port is taken.
    """
    names = frozenset() if host in EVERYWHERE else frozenset({host.lower(), "127.0.0.1", "localhost", "::1"})
    gate = Middleware(Gate, pages=session.pages, hosts=names)
    pages = assembled(session, language)
    theme = gr.themes.Default(font=(gr.themes.LocalFont(FONT, WEIGHTS), *FONTS))
    try:
        _, url, _ = pages.launch(
            server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, share=False, ssr_mode=False,
            allowed_paths=[], footer_links=[], run_history=False, mcp_server=False, pwa=False, enable_monitoring=False,
            app_kwargs={"middleware": [gate]}, theme=theme, css_paths=STYLE,
        )  # fmt: skip
    except OSError as error:
        raise ns.InputError(f"cannot listen on {host} port {port or '7860 to 7959'}; name another: --port N") from error
    return pages, url
