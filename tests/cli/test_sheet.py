"""The contact sheet: one page that needs nothing else, escapes what it shows, and says no more than the numbers do."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import nearsight as ns
from nearsight import Hit, Hits, InputError, contact_sheet, relevance_words


def answer(*hits: Hit, query: str = "q", best: float | None = 0.9) -> Hits:
    return Hits(
        items=hits, query=query, decision=None, total_considered=8, best_relevance=best, min_relevance=0.5, weak=not hits
    )  # fmt: skip


class Reader(HTMLParser):
    """Collects tags and addresses of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "data", "action"}]


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_the_page_asks_for_nothing_from_outside(photos: Path) -> None:
    page = contact_sheet([("一只猫", answer(Hit(path=photos / "cat.jpg", score=0.4, relevance=0.9)))])

    addresses = read(page).addresses
    assert len(addresses) == 1
    assert addresses[0].startswith("data:image/jpeg;base64,")
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_a_thumbnail_is_a_small_jpeg_of_the_picture(photos: Path) -> None:
    page = contact_sheet([("q", answer(Hit(path=photos / "cat.jpg", score=0.4, relevance=0.9)))])

    data = base64.b64decode(re.search(r"base64,([^\"]+)", page)[1])
    thumbnail = Image.open(io.BytesIO(data))
    assert thumbnail.format == "JPEG"
    assert max(thumbnail.size) == 240


def test_a_picture_that_is_gone_leaves_a_frame_and_no_error(tmp_path: Path) -> None:
    page = contact_sheet([("q", answer(Hit(path=tmp_path / "gone.jpg", score=0.1, relevance=0.7)))])

    assert "the file is gone or unreadable" in page
    assert "likely match" in page


def test_nothing_matches_is_an_answer_on_the_page() -> None:
    page = contact_sheet([("a plate of sushi", answer(best=0.12))])

    assert "nothing matches" in page
    assert "weak match at relevance 0.12" in page


def test_several_queries_share_a_page(photos: Path, tmp_path: Path) -> None:
    hits = answer(Hit(path=photos / "cat.jpg", score=0.4, relevance=0.9))

    page = contact_sheet([("one", hits), ("two", hits)], tmp_path / "page.html", title="Two", notes=["a note"])

    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
    assert page.count("<section>") == 2
    assert "<p>a note</p>" in page


def test_a_folder_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        contact_sheet([], tmp_path / "no" / "page.html")


@given(
    query=st.text(),
    name=st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1),
    camera=st.text(),
)
def test_no_text_can_break_out_of_the_page(query: str, name: str, camera: str) -> None:
    plain = read(contact_sheet([("q", answer(Hit(path=Path("/x/y.jpg"), score=0.1, relevance=0.2, camera="c")))]))
    hit = Hit(
        path=Path("/x") / (name + "<script>"), score=0.1, relevance=0.2, camera=camera + '"><img src=x onerror=y>'
    )

    page = read(contact_sheet([(query + "</section><script>", answer(hit))]))

    assert page.tags == plain.tags
    assert page.addresses == plain.addresses


@given(st.floats(0, 1), st.floats(0, 1))
def test_words_never_praise_the_less_relevant_more(one: float, other: float) -> None:
    order = ["weak match", "likely match", "strong match"]

    low, high = sorted((one, other))

    assert order.index(relevance_words(low)) <= order.index(relevance_words(high))


def test_nothing_that_nano_hides_by_default_is_called_likely() -> None:
    hidden = ns.Encoder("nano").default_min_relevance - 0.001

    assert ns.relevance_words(hidden) == "weak match"


def test_figures_of_one_heading_stand_together_and_are_escaped() -> None:
    picture = Image.new("RGB", (900, 300), "teal")

    page = contact_sheet(
        [],
        figures=[
            ns.Figure(heading="Seen", picture=picture, title="2 <cars>", lines=("a & b",)),
            ns.Figure(heading="Asked", picture=None, title="How many?"),
            ns.Figure(heading="Seen", picture=picture, title="a dog"),
        ],
    )

    assert re.findall(r"<h2>(\w+)</h2>", page) == ["Seen", "Asked"]
    assert page.index("2 &lt;cars&gt;") < page.index("a dog") < page.index("How many?")
    assert "a &amp; b" in page
    shown = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", page)[1])))
    assert shown.size == (480, 160)
