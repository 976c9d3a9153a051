"""The demo in a real browser: every tab does its job on real photographs, and nothing is asked of another machine.

Needs `pip install 'nearsight[browser]'` and Chromium (`apt-get install chromium`); skipped, with the reason, without.
NEARSIGHT_SHOTS names a folder that keeps a picture of each tab.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install 'nearsight[browser]'")
pytest.importorskip("gradio", reason="needs Gradio: pip install 'nearsight[browser]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
PATIENCE_MS = 60_000


@dataclass(slots=True)
class Demo:
    """A demo that runs, and a page of it."""

    url: str
    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def tab(self, name: str) -> Any:
        self.page.get_by_role("tab", name=name, exact=True).click()
        return self.page.get_by_role("tabpanel").filter(visible=True)

    def sees(self, where: Any, text: str | re.Pattern[str]) -> None:
        self.holds(sync_api.expect(where).to_contain_text, text)

    def holds(self, check: Callable[..., None], *values: Any) -> None:
        """Wait for something to hold; where it does not, add what the page says of it."""
        try:
            check(*values, timeout=PATIENCE_MS)
        except AssertionError as error:
            said = self.page.locator(".toast-wrap").inner_text()
            pytest.fail(f"{error}\ntoast: {said}\ncomplaints: {self.complaints}\nlast: {self.requests[-8:]}")

    def shot(self, name: str) -> None:
        if folder := os.environ.get("NEARSIGHT_SHOTS"):
            self.page.wait_for_timeout(700)
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        place = urllib.parse.urlsplit(self.url)
        with_server = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
        try:
            with_server.request("GET", path, headers=headers)
            answer = with_server.getresponse()
            return answer.status, answer.read()
        finally:
            with_server.close()


@pytest.fixture(scope="module")
def pictures(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("demo") / "holiday"
    shutil.copytree(photos, place, ignore=shutil.ignore_patterns("*.md", "coins.jpg"))
    return place


@pytest.fixture(scope="module")
def frames(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("frames")
    with Image.open(photos / "cat.jpg") as picture:
        cat = picture.convert("RGB").resize((240, 160))
    paths = [place / f"{number:03}.jpg" for number in range(14)]
    for number, path in enumerate(paths):
        frame = Image.new("RGB", (400, 480), (96, 104, 96))
        frame.paste(cat, (80, 8 + number * 24))
        frame.save(path, quality=92)
    return paths


@pytest.fixture(scope="module")
def program(pictures: Path, tmp_path_factory: pytest.TempPathFactory):
    own = tmp_path_factory.mktemp("temporary")
    command = [Path(sys.executable).parent / "nearsight", "demo", "--folder", pictures, "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(own)}
    ) as running:
        try:
            line = running.stdout.readline()
            assert line, running.stderr.read()
            yield json.loads(line)["url"], running, own
        finally:
            running.kill()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def demo(program: tuple[str, subprocess.Popen[str], Path], browser: Any) -> Demo:
    url = program[0]
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.set_default_timeout(PATIENCE_MS)
    demo = Demo(url, page)
    page.on("request", lambda request: demo.requests.append(request.url))
    page.on("pageerror", lambda error: demo.complaints.append(str(error)))
    page.on("console", lambda said: demo.complaints.append(said.text) if said.type == "error" else None)
    page.goto(url)
    return demo


def test_the_folder_is_indexed_when_the_page_opens(demo: Demo) -> None:
    panel = demo.tab("Search")

    demo.sees(panel, "7 new, 0 unchanged, 0 unreadable")
    demo.sees(panel, "holiday (7)")


def test_search_finds_by_english_and_by_chinese_and_shows_how_relevant(demo: Demo) -> None:
    panel = demo.tab("Search")
    for words in ("a cup of coffee", "一只猫"):
        panel.get_by_label("What are you looking for?").fill(words)
        panel.get_by_role("button", name="Search", exact=True).click()
        demo.sees(panel, {"一只猫": "cat.jpg"}.get(words, "coffee.jpg"))

        best = panel.locator(".ns-card").first
        demo.sees(best, re.compile("(strong|likely) match"))
        assert best.locator("img").evaluate("image => image.naturalWidth") > 100
        assert float(re.search(r"\d+", best.locator(".ns-bar i").get_attribute("style"))[0]) >= 62
        demo.shot("search" if words.isascii() else "search-chinese")


def test_a_question_that_is_offered_finds_something_here(demo: Demo) -> None:
    panel = demo.tab("Search")

    panel.get_by_role("button", name="a cat", exact=True).click()
    demo.holds(sync_api.expect(panel.get_by_label("What are you looking for?")).to_have_value, "a cat")
    panel.get_by_role("button", name="Search", exact=True).click()

    demo.sees(panel.locator(".ns-card").first, "cat.jpg")


def test_search_says_plainly_when_nothing_matches_and_names_the_nearest(demo: Demo) -> None:
    panel = demo.tab("Search")

    panel.get_by_role("button", name="a plate of sushi").click()
    demo.holds(sync_api.expect(panel.get_by_label("What are you looking for?")).to_have_value, "a plate of sushi")
    panel.get_by_role("button", name="Search", exact=True).click()

    demo.sees(panel, "Nothing matches “a plate of sushi”.")
    demo.sees(
        panel.locator(".ns-nearest"),
        re.compile(r"Nearest of \d pictures is \S+\.jpg, a weak match at relevance 0\.\d\d"),
    )
    assert panel.locator(".ns-nearest img").evaluate("image => image.naturalWidth") > 100
    assert panel.locator(".ns-card").count() == 0
    demo.shot("search-nothing")


def test_another_model_of_this_machine_can_be_chosen(demo: Demo, installed: Callable) -> None:
    installed("nano", "other-search")
    installed("nano-detect", "other-detect")
    demo.tab("Detect")
    panel = demo.tab("Search")
    # So that what is said next of seven new pictures is said of the other model's.
    panel.get_by_role("button", name="Bring the folder up to date").click()
    demo.sees(panel, "0 new, 7 unchanged")
    choice = panel.get_by_label("Model")

    choice.click()
    panel.get_by_role("option", name="other-search").click()

    demo.sees(panel, "7 new, 0 unchanged")
    panel.get_by_label("What are you looking for?").fill("a cat")
    panel.get_by_role("button", name="Search", exact=True).click()
    demo.sees(panel.locator(".ns-card").first, "cat.jpg")
    demo.shot("search-model")
    choice.click()
    panel.get_by_role("option", name="nano", exact=True).click()
    demo.sees(panel, "0 new, 7 unchanged")
    panel = demo.tab("Detect")
    panel.get_by_label("Model").click()
    demo.holds(sync_api.expect(panel.get_by_role("option", name="other-detect")).to_be_visible)
    panel.get_by_role("option", name="nano", exact=True).click()


def test_uploads_are_indexed_beside_the_folder(demo: Demo, photos: Path) -> None:
    panel = demo.tab("Search")

    panel.locator("input[type=file]").set_input_files(photos / "coins.jpg")

    demo.sees(panel, "1 new, 0 unchanged")
    demo.sees(panel, "your uploads (1)")
    panel.get_by_role("radio", name="holiday").check()


def test_detect_draws_boxes_and_lists_what_it_cannot_judge(demo: Demo, photos: Path) -> None:
    panel = demo.tab("Detect")
    panel.get_by_label("What to look for").fill("cup, cat, person, 杯子, no dog")

    panel.locator("input[type=file]").first.set_input_files(photos / "coffee.jpg")

    demo.sees(panel, "Cannot judge: no dog")
    demo.sees(panel.locator(".ns-table"), re.compile("cup.*by name.*杯子.*cup.*by name", re.DOTALL))
    drawn = panel.locator("img[src*='gradio_api/file=']").last
    assert drawn.evaluate("image => image.naturalWidth") == 320
    demo.shot("detect")


def test_detect_takes_a_picture_of_the_gallery(demo: Demo) -> None:
    panel = demo.tab("Detect")
    drawn = panel.locator("img[src*='gradio_api/file=']").last
    before = drawn.get_attribute("src") if drawn.count() else ""

    panel.locator(".ns-shelf button.thumbnail-item").first.click()

    demo.holds(sync_api.expect(drawn).not_to_have_attribute, "src", before)
    assert drawn.evaluate("async image => { await image.decode(); return image.naturalWidth > 100; }")


def test_caption_says_it_in_both_languages_and_warns(demo: Demo, photos: Path) -> None:
    panel = demo.tab("Caption")

    panel.locator("input[type=file]").first.set_input_files(photos / "rocket.jpg")

    demo.sees(panel, "In English")
    demo.sees(panel.locator(".ns-said[lang=en]"), re.compile(r"[a-z]+ [a-z]+"))
    demo.sees(panel.locator(".ns-said[lang=zh]"), re.compile(r"[\u4e00-\u9fff]{3,}"))
    demo.sees(panel, "A small model wrote this.")
    demo.shot("caption")


def test_the_agent_answers_with_its_steps_and_sends_only_what_is_approved(demo: Demo) -> None:
    panel = demo.tab("Agent")
    question = panel.get_by_label("Ask about the pictures")
    panel.get_by_role("button", name="Is there a picture of a plate of sushi?").click()
    demo.holds(sync_api.expect(question).to_have_value, "Is there a picture of a plate of sushi?")
    question.fill("notify me if there is a cat")
    panel.get_by_role("button", name="Show the plan only").click()
    demo.sees(panel.locator(".ns-table"), "planned")
    assert "cat.jpg" not in panel.inner_text()

    panel.get_by_role("button", name="Ask", exact=True).click()
    demo.sees(panel, "it waits for your approval")
    demo.sees(panel.locator(".ns-card").first, "cat.jpg")
    demo.sees(panel.locator(".ns-table"), "refused")
    demo.shot("agent")
    panel.get_by_role("button", name="Approve and send").click()

    demo.sees(panel, "Notified: there is a cat")
    question.fill("what is in /etc/passwd.jpg?")
    panel.get_by_role("button", name="Ask", exact=True).click()
    demo.sees(panel, "no picture /etc/passwd.jpg in this gallery")


def test_watch_counts_over_the_line_and_its_events_can_be_asked_about(demo: Demo, frames: list[Path]) -> None:
    panel = demo.tab("Watch")
    panel.locator("input[type=file]").first.set_input_files(frames)
    demo.holds(sync_api.expect(panel.locator("img[src*='gradio_api/file=']").first).to_be_visible)
    panel.get_by_label("What to look for").fill("cat")

    panel.get_by_role("button", name="Watch", exact=True).click()

    demo.sees(panel, "14 frames in")
    counts = panel.locator(".ns-table").first.locator("tbody tr").first.locator("td").all_inner_texts()
    assert counts == ["cat", "1", "1", "0"]
    demo.sees(panel.locator(".ns-table").last, "crossed: in")
    assert panel.locator(".ns-table img").first.evaluate("image => image.naturalWidth") > 50
    demo.shot("watch")
    search = demo.tab("Search")
    search.get_by_role("radio", name="watched events").check()
    search.get_by_role("button", name="Camera and time").click()
    search.get_by_label("What are you looking for?").fill("a cat")
    search.get_by_label("Taken from").fill("2099-01-01")
    search.get_by_role("button", name="Search", exact=True).click()
    demo.sees(search, "No picture passes the filters.")
    search.get_by_label("Taken from").fill("")
    search.get_by_label("Camera", exact=True).click()
    demo.page.get_by_role("option", name="gate-1").click()
    search.get_by_role("button", name="Search", exact=True).click()
    demo.sees(search.locator(".ns-card").first, "gate-1")
    demo.shot("search-filtered")
    agent = demo.tab("Agent")
    agent.get_by_role("radio", name="watched events").check()
    agent.get_by_label("Ask about the pictures").fill("how many cats were there at gate-1?")
    agent.get_by_role("button", name="Ask", exact=True).click()
    demo.sees(agent.locator(".ns-answer"), re.compile(r"cats?\b.*\b1\b|\b1\b.*\bcat"))


def test_delegate_shows_what_every_answer_decided(demo: Demo) -> None:
    panel = demo.tab("Delegate")

    demo.sees(panel, "Targets of this machine")
    answers = panel.locator(".ns-table").first
    for tab in ("Search", "Detect", "Caption", "Agent", "Watch", "Index"):
        demo.sees(answers, tab)
    assert set(answers.locator("tbody tr td:nth-child(10)").all_inner_texts()) == {"nothing"}
    found = answers.locator("tbody tr").filter(has=demo.page.get_by_role("cell", name="Detect", exact=True)).first
    demo.sees(found.locator("td:nth-child(5)"), re.compile(r"\d+ operators on \w+"))
    measured = panel.locator(".ns-table").nth(1)
    for graph in ("nano.image", "nano.text", "nano-detect.detect"):
        demo.sees(measured, graph)
    assert panel.locator(".ns-chart circle[r='6']").count() >= 3
    demo.sees(panel.locator(".ns-table").last, re.compile("(cpu|openvino) int8"))
    demo.shot("delegate")


def test_the_other_language_is_one_click_away(demo: Demo) -> None:
    # On a busy machine Gradio's client complains of an answer's stream that leaving the page cuts off: let it end.
    demo.page.wait_for_timeout(1000)
    demo.page.get_by_role("link", name="中文").or_(demo.page.get_by_role("button", name="中文")).first.click()
    panel = demo.page.get_by_role("tabpanel").filter(visible=True)
    demo.sees(panel, "holiday（7 张）")

    panel.get_by_label("您在找什么").fill("一只猫")
    panel.get_by_role("button", name="搜索", exact=True).click()

    demo.sees(panel.locator(".ns-card").first, "cat.jpg")
    demo.sees(panel.locator(".ns-card").first, re.compile("(高度|可能)匹配"))
    demo.shot("search-zh")


def test_nothing_was_asked_of_another_machine_and_the_page_had_nothing_to_complain_of(demo: Demo) -> None:
    strangers = [url for url in demo.requests if not url.startswith((demo.url, "data:", f"blob:{demo.url}"))]

    assert len(demo.requests) > 50
    assert strangers == []
    assert demo.complaints == []


def test_no_file_is_served_but_the_pages_own(demo: Demo, pictures: Path, program: tuple[str, Any, Path]) -> None:
    served = re.search(r"/gradio_api/file=\S+", next(url for url in demo.requests if "/gradio_api/file=" in url))[0]
    assert demo.get(served)[0] == 200
    (home,) = program[2].glob("nearsight-demo-*")

    for path in (
        "/etc/passwd",
        f"{pictures}/cat.jpg",
        f"{home}/folder.nsg/gallery.sqlite",
        f"{home}/pages/../folder.nsg/gallery.sqlite",
        f"{home}/pages/%2e%2e/folder.nsg/gallery.sqlite",
        "../../../../etc/passwd",
        "http://127.0.0.1/",
    ):
        status, body = demo.get(f"/gradio_api/file={path}")
        assert (status, body) == (403, b"not served here"), path
    for path in (
        "/static/../../../../../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    ):
        status, body = demo.get(path)
        assert status in {403, 404}, path
        assert b"root:" not in body
    assert demo.get("/", Host="evil.example")[0] == 403


def test_an_interrupt_ends_it_cleanly_and_leaves_nothing_behind(
    demo: Demo, program: tuple[str, subprocess.Popen[str], Path]
) -> None:
    _, running, own = program
    demo.page.goto("about:blank")

    running.send_signal(signal.SIGINT)

    assert running.wait(timeout=30) == 0
    said = running.stderr.read()
    assert "what was uploaded is deleted" in said
    assert "Traceback" not in said
    assert list(own.glob("nearsight-demo-*")) == []


def test_with_nothing_given_there_is_something_to_search_and_a_word_on_how_to_bring_ones_own(
    browser: Any, tmp_path: Path
) -> None:
    command = [Path(sys.executable).parent / "nearsight", "demo", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as running:
        try:
            demo = Demo(json.loads(running.stdout.readline())["url"], browser.new_page())
            demo.page.set_default_timeout(PATIENCE_MS)
            demo.page.goto(demo.url)
            panel = demo.tab("Search")

            demo.sees(panel, "nearsight demo --folder ~/Pictures")
            demo.sees(panel, re.compile(r"[1-9]\d* new, 0 unchanged, 0 unreadable"))
            panel.get_by_label("What are you looking for?").fill("a running cheetah")
            panel.get_by_role("button", name="Search", exact=True).click()
            demo.sees(panel.locator(".ns-card").first, "cheetah")
            demo.shot("alone")
        finally:
            running.send_signal(signal.SIGINT)
            assert running.wait(timeout=60) == 0
