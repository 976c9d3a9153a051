"""What is behind the pages of `nearsight demo`, without a browser and without Gradio."""

from __future__ import annotations

import asyncio
import html
import random
import re
import shutil
import string
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

import nearsight as ns
import nearsight_npu as npu
from nearsight.cli.main import main
from nearsight_demos import cards, decisions, looking, photographs
from nearsight_demos.chart import HEIGHT, WIDTH, Point, chart
from nearsight_demos.command import begun
from nearsight_demos.gate import Gate
from nearsight_demos.session import GIVEN, UPLOADS, Glasses, Session
from nearsight_demos.subjects import CLASSES, asking
from nearsight_demos.watching import Watching, Wish, configuration, preview, source_of
from nearsight_demos.words import WORDS, speaker

if TYPE_CHECKING:
    from collections.abc import Callable

SAY = speaker("en")
HOSTILE = "<script>alert('x')</script> & \"more\""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path: Path, photos: Path) -> Path:
    return Path(shutil.copytree(photos, tmp_path / "mine", ignore=shutil.ignore_patterns("*.md")))


@pytest.fixture
def session(home: Path, folder: Path):
    session = Session(home, folder=folder)
    session.add(GIVEN, [folder], lambda _: None)
    yield session
    session.close()


def panned(photos: Path, place: Path, count: int = 14) -> list[Path]:
    """Make frames in which a real cat moves down through the picture."""
    place.mkdir()
    with Image.open(photos / "cat.jpg") as picture:
        cat = picture.convert("RGB").resize((240, 160))
    frames = []
    for number in range(count):
        frame = Image.new("RGB", (400, 480), (96, 104, 96))
        frame.paste(cat, (80, 8 + number * 24))
        frames.append(place / f"{number:03}.jpg")
        frame.save(frames[-1], quality=92)
    return frames


def wish(source: Path, **changes: Any) -> Wish:
    usual = {"camera": "gate-1", "labels": ("cat",), "ends": (0.0, 0.5, 1.0, 0.5), "fps": 5.0, "most": 100}
    return Wish(source=source, **{**usual, **changes})


# Words


def test_both_languages_fill_in_the_same_values() -> None:
    def fields(text: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(text)} - {None}

    uneven = [key for key, (english, chinese) in WORDS.items() if fields(english) != fields(chinese)]

    assert uneven == []


def test_every_word_that_a_page_says_is_there_and_none_is_idle(root: Path) -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (root / "demos" / "nearsight_demos").glob("*.py"))
    code = code.replace((root / "demos" / "nearsight_demos" / "words.py").read_text(encoding="utf-8"), "")
    said = set(re.findall(r'(?<!_)say\("([^"]+)"[,)]', code))

    assert said - set(WORDS) == set()
    composed = (" match", " en", " zh", "class", "similar", "crop", "example", "text")
    idle = [key for key in WORDS if not re.search(f"[\"']{re.escape(key)}[\"']", code) and not key.endswith(composed)]
    assert idle == []


# Pieces of HTML


def test_what_a_person_or_a_file_says_is_never_markup(session: Session) -> None:
    hits = session.gallery(GIVEN).search(HOSTILE, min_relevance=1.0)
    nearest = session.gallery(GIVEN).search(HOSTILE, k=1, min_relevance=0)

    shown = (
        cards.results(hits, nearest, SAY)
        + cards.table([HOSTILE], [[HOSTILE]])
        + cards.note(HOSTILE)
        + cards.title(HOSTILE)
    )

    assert "<script" not in shown
    assert shown.count("&lt;script") == 5


def test_hits_come_with_a_bar_and_the_public_words_for_their_relevance(session: Session) -> None:
    hits = session.gallery(GIVEN).search("a cup of coffee", k=3, min_relevance=0)

    shown = cards.results(hits, hits, SAY)

    assert shown.count("<li class='ns-card") == 3
    assert f"{SAY(ns.relevance_words(hits[0].relevance))}</b><span>{hits[0].relevance:.2f}" in shown
    assert f"width:{round(100 * hits[0].relevance)}%" in shown
    assert shown.count("src='data:image/jpeg;base64,") == 3


def test_a_miss_is_said_plainly_and_names_and_shows_the_nearest_picture(session: Session) -> None:
    gallery = session.gallery(GIVEN)
    hits = gallery.search("a plate of sushi", min_relevance=0.99)
    nearest = gallery.search("a plate of sushi", k=1, min_relevance=0)

    english, chinese = (cards.results(hits, nearest, say) for say in (SAY, speaker("zh")))

    assert "Nothing matches “a plate of sushi”." in english
    assert "没有与“a plate of sushi”匹配的照片。" in chinese
    for shown in (english, chinese):
        assert nearest[0].path.name in shown
        assert f" {nearest[0].relevance:.2f}" in shown
        assert shown.count("src='data:image/jpeg;base64,") == 1


def test_where_no_picture_passes_the_filters_none_is_called_the_nearest(session: Session) -> None:
    hits = session.gallery(GIVEN).search("a cat", camera="none such")

    assert "No picture passes the filters." in cards.results(hits, hits, SAY)


def test_a_picture_that_is_gone_leaves_a_frame_that_says_so(tmp_path: Path) -> None:
    assert "gone or unreadable" in cards.picture(tmp_path / "nothing.jpg", SAY)


# Detections and captions


def test_labels_may_be_separated_by_commas_of_either_script() -> None:
    assert looking.labels_of(" car, 人，red truck、dog;car\n") == ["car", "人", "red truck", "dog"]
    assert looking.labels_of(" ，, ") == []


def test_what_cannot_be_judged_is_listed(session: Session, photos: Path) -> None:
    found = session.detector.detect(photos / "cat.jpg", ["cat", "no dog"])

    shown = looking.found(found, SAY)

    assert "<td>cat</td>" in shown
    assert "by name" in shown
    assert "Cannot judge: no dog." in shown


def test_a_caption_comes_with_its_confidence_and_a_caution(session: Session, photos: Path) -> None:
    said = session.captioner.caption(photos / "cat.jpg")

    shown = looking.described([said], SAY)

    assert said.text in shown
    assert f"confidence {said.confidence:.2f}" in shown
    assert WORDS["caution"][0] in shown


def test_each_noun_of_a_caption_is_marked_as_seen_or_not(session: Session, photos: Path) -> None:
    said = session.captioner.caption(photos / "cat.jpg")
    checked = replace(said, grounding=(("cat", True), ("<dog>", False)))

    shown = looking.described([checked], SAY)

    assert "ns-noun'>cat: seen</span>" in shown
    assert "ns-doubted'>&lt;dog&gt;: not found in the picture</span>" in shown
    assert "ns-nouns" not in looking.described([replace(said, grounding=())], SAY)


# The session


def test_the_models_of_this_machine_are_offered_for_what_they_serve(session: Session, installed: Callable) -> None:
    installed("nano", "other-search")
    installed("nano-detect", "other-detect")
    installed("nano-caption", "other-caption")

    offered = {capability: session.models.names(capability) for capability in ("search", "detect", "caption")}

    assert offered == {
        "search": ["nano", "other-search"],
        "detect": ["nano", "other-detect"],
        "caption": ["nano", "other-caption"],
    }
    assert session.models.broken == {}


def test_a_damaged_model_is_not_offered_and_told(session: Session, installed: Callable) -> None:
    (installed("nano-detect", "torn") / "manifest.toml").write_text("name =", encoding="utf-8")

    assert session.models.names("detect") == ["nano"]
    assert list(session.models.broken) == ["torn"]


def test_another_model_encodes_the_runs_own_pictures_anew_once(
    session: Session, installed: Callable, folder: Path
) -> None:
    name = installed("nano", "other").name
    session.add(UPLOADS, [folder / "coffee.jpg"], lambda _: None)

    first = session.use(name, lambda _: None)
    there = (session.gallery(GIVEN).stats().model, session.gallery(UPLOADS).stats().model)
    back = session.use("nano", lambda _: None)

    assert [report.added for report in first] == [8, 1]
    assert there == (name, name)
    assert [report.added for report in back] == [0, 0]
    assert session.made_with(GIVEN) == "nano"
    assert session.gallery(GIVEN).search("a cat", k=1)[0].path.name == "cat.jpg"


def test_a_model_that_cannot_be_had_leaves_all_as_it_was(session: Session) -> None:
    with pytest.raises(ns.UnknownModelError):
        session.use("no-such-model", lambda _: None)

    assert session.model == "nano"
    assert len(session.gallery(GIVEN)) == 8


def test_a_gallery_of_ones_own_keeps_the_model_it_was_made_with(
    tmp_path: Path, home: Path, folder: Path, installed: Callable
) -> None:
    name = installed("nano", "other").name
    with ns.Gallery.open(tmp_path / "g.nsg", encoder=name) as gallery:
        gallery.add(folder / "cat.jpg")
    session = Session(home, gallery=tmp_path / "g.nsg")

    reports = session.use("nano", lambda _: None)

    found = session.gallery(GIVEN).search("a cat", k=1)
    session.close()
    assert reports == []
    assert session.made_with(GIVEN) == name
    assert found[0].path.name == "cat.jpg"


def test_a_gallery_alone_is_only_read(tmp_path: Path, home: Path, folder: Path) -> None:
    with ns.Gallery.open(tmp_path / "g.nsg") as gallery:
        gallery.add(folder / "cat.jpg")
        before = (len(gallery), gallery.stats().generation)
    session = Session(home, gallery=tmp_path / "g.nsg")
    session.add(UPLOADS, [folder / "coffee.jpg"], lambda _: None)

    titles = [title for title, _ in session.choices(SAY)]

    session.close()
    with ns.Gallery.open(tmp_path / "g.nsg") as gallery:
        assert (len(gallery), gallery.stats().generation) == before
    assert titles == ["g.nsg (1)", "your uploads (1)"]


def test_a_gallery_or_folder_that_is_not_there_is_a_mistake_in_one_line(tmp_path: Path, home: Path) -> None:
    with pytest.raises(ns.InputError, match="no folder"):
        Session(home, folder=tmp_path / "nothing")
    with pytest.raises(ns.GalleryNotFoundError):
        Session(home, gallery=tmp_path / "nothing.nsg")


def test_an_agent_of_the_page_looks_at_pictures_of_the_gallery_only(session: Session, photos: Path) -> None:
    glasses = Glasses(session, GIVEN)

    found = glasses.detect("cat.jpg", ["cat"])

    assert found.labels == ("cat",)
    with pytest.raises(ns.InputError, match="no picture"):
        glasses.detect(str(photos / "cat.jpg"), ["cat"])
    with pytest.raises(ns.InputError, match="no picture"):
        glasses.caption("/etc/passwd", "en")


def test_samples_are_pictures_of_the_gallery_and_served_as_copies(session: Session, folder: Path) -> None:
    samples = session.samples()
    copy = session.served(samples[0])

    assert samples
    assert {path.parent for path in samples} == {folder}
    assert copy.is_relative_to(session.pages)
    assert ns.read_image(copy).size == ns.read_image(samples[0]).size


def test_what_is_offered_fits_the_gallery_and_changes_with_it(session: Session, home: Path, photos: Path) -> None:
    offer = session.offer(GIVEN, "en")

    assert session.offer(UPLOADS, "en") is None
    assert offer is not None
    assert session.offer(GIVEN, "en") is offer
    assert CLASSES["cat"] in offer.there
    asked = asking(offer, "en", SAY)
    assert asked[-1] == f"Is there a picture of {offer.absent.en}?"
    assert any(subject.en in asked[0] for subject in offer.there)
    session.gallery(GIVEN).remove(session.folder / "cat.jpg")
    assert CLASSES["cat"] not in session.offer(GIVEN, "en").there


def test_what_each_answer_decided_is_remembered_newest_first(session: Session, photos: Path) -> None:
    session.record("detect", "cat.jpg: cat", session.detector.detect(photos / "cat.jpg", ["cat"]).decision)
    session.record("agent", "nothing was computed", None)

    assert [told.tab for told in session.told] == ["detect", "index"]
    shown = decisions.answers(session, SAY)
    decision = session.told[0].decision
    assert decision["target"] in {found.target for found in npu.probe() if found.available}
    assert decision["placement"] in html.unescape(shown)
    assert f"{decision['measured']['latency_ms']:.1f}" in shown
    assert decision["predicted"] is None
    assert shown.count("<th>") == 10


# What was measured


def test_what_was_measured_is_a_picture_and_a_table_with_what_was_taken(session: Session, photos: Path) -> None:
    session.detector.detect(photos / "cat.jpg", ["cat"])
    chosen = {choice.name: choice for choice in npu.remembered_choices()}

    shown = decisions.measurements(SAY)

    assert {"nano.image", "nano-detect.detect"} <= set(chosen)
    assert shown.count("<b>taken</b>") == min(len(chosen), decisions.GRAPHS)
    first = chosen["nano-detect.detect"].trials[0]
    assert f"<td>nano-detect.detect</td><td>{first.precision}</td><td>{first.target}</td>" in shown
    assert f"<td>{first.latency_ms:.2f}</td>" in shown
    for said in (shown, decisions.measurements(speaker("zh"))):
        assert said.count("<svg") == 1


def test_names_of_graphs_are_never_markup(photos: Path, tmp_path: Path) -> None:
    import nearsight_models

    file = nearsight_models.load("nano", "caption").files["see"]["int8"].path
    npu.Delegate().load(file, name=HOSTILE).close()

    shown = decisions.measurements(SAY)

    assert html.escape(HOSTILE) in shown
    assert "<script" not in shown


def test_the_picture_puts_the_slower_further_right_and_the_larger_further_up() -> None:
    draw = random.Random(7)
    points = [
        Point(
            graph=f"g{number}", precision="int8", where="cpu", mb=draw.uniform(0.01, 900), ms=draw.uniform(0.02, 9000),
            chosen=True,
        )
        for number in range(40)
    ]  # fmt: skip

    found = re.findall(r"<circle cx='([\d.]+)' cy='([\d.]+)' r='6'", chart(points, SAY))

    places = [(float(x), float(y)) for x, y in found]
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in places)
    by_time = [place[0] for _, place in sorted(zip(points, places, strict=True), key=lambda pair: pair[0].ms)]
    by_size = [place[1] for _, place in sorted(zip(points, places, strict=True), key=lambda pair: pair[0].mb)]
    assert by_time == sorted(by_time)
    assert by_size == sorted(by_size, reverse=True)


def test_many_choices_that_were_not_taken_are_folded_and_never_markup(session: Session) -> None:
    rejected = tuple(npu.Rejected(target=HOSTILE, precision="int8", reason="wrong numbers") for _ in range(3))
    decision = npu.Decision(requested="auto", target="cpu", precision="int8", model_hash="", rejected=rejected)
    session.record("search", "a cat", decision)

    shown = decisions.answers(session, SAY)

    assert "<summary>3</summary>" in shown
    assert shown.count(html.escape(HOSTILE)) == 3
    assert "<script" not in shown


def test_only_what_was_taken_is_a_full_circle() -> None:
    one = Point(graph="g", precision="int8", where="cpu", mb=1, ms=1, chosen=True)

    drawn = chart([one, replace(one, precision="fp16", ms=2, chosen=False)], SAY)

    assert drawn.count("fill='none'") == 1
    assert drawn.count("r='6'") == 1
    assert drawn.count("class='ns-family'") == 1


# The gate


def asked(gate: Gate, path: str, body: bytes | None = None, host: str = "127.0.0.1:7860") -> tuple[int, dict[str, str]]:
    sent: list[dict[str, Any]] = []
    waiting = [{"type": "http.request", "body": body or b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        return waiting.pop()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    method = "GET" if body is None else "POST"
    scope = {"type": "http", "method": method, "path": path, "headers": [(b"host", host.encode())]}
    asyncio.run(gate(scope, receive, send))
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


@pytest.fixture
def gate(home: Path) -> Gate:
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            assert (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"let through"})

    (home / "pages").mkdir()
    (home / "pages" / "a.jpg").write_bytes(b"picture")
    (home / "secret.jpg").write_bytes(b"secret")
    (home / "pages" / "link.jpg").symlink_to(home / "secret.jpg")
    return Gate(behind, pages=home / "pages", hosts=frozenset({"127.0.0.1", "localhost"}))


def test_only_files_of_the_served_folder_pass_the_gate(gate: Gate, home: Path) -> None:
    def status(path: str) -> int:
        return asked(gate, f"/gradio_api/file={path}")[0]

    assert status(f"{home}/pages/a.jpg") == 200
    for path in (
        "/etc/passwd",
        f"{home}/secret.jpg",
        f"{home}/pages/../secret.jpg",
        f"{home}/pages/%2e%2e/secret.jpg",
        f"{home}/pages/link.jpg",
        f"{home}/pages/a.jpg\0.png",
        "a.jpg",
        "http://example.com/a.jpg",
        "file:///etc/passwd",
    ):
        assert status(path) == 403, path


@pytest.mark.parametrize(
    "path", ["/", "/zh", "/zh/", "/assets/a.js", "/config", "/gradio_api/upload", "/gradio_api/heartbeat/a1"]
)
def test_what_the_pages_need_passes_the_gate_under_a_policy_of_its_own_origin(gate: Gate, path: str) -> None:
    status, headers = asked(gate, path)

    assert status == 200
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "http" not in headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/proxy=http://example.com", "/gradio_api/vibe-edit/", "/docs", "/login", "/assets/../../etc", "/zhx"],
)
def test_routes_that_no_page_uses_do_not(gate: Gate, path: str) -> None:
    wanted = 200 if path.startswith("/assets/") else 403  # the server behind resolves those, within its own folder

    assert asked(gate, path)[0] == wanted


def test_a_name_that_points_here_from_elsewhere_is_refused(gate: Gate) -> None:
    assert asked(gate, "/", host="localhost:7860")[0] == 200
    assert asked(gate, "/", host="evil.example:7860")[0] == 403
    assert asked(gate, "/", host="")[0] == 403


@pytest.mark.parametrize("route", ["queue/join", "run/predict"])
def test_a_request_may_name_uploaded_files_only(gate: Gate, home: Path, route: str) -> None:
    def status(path: str) -> int:
        body = f'{{"data": [{{"path": "{path}", "meta": {{"_type": "gradio.FileData"}}}}, "text"]}}'
        return asked(gate, f"/gradio_api/{route}", body.encode())[0]

    assert status(f"{home}/pages/a.jpg") == 200
    assert status("/etc/passwd") == 403
    assert status("http://example.com/a.jpg") == 403
    assert asked(gate, "/gradio_api/queue/join", b"no json")[0] == 403
    assert asked(gate, "/gradio_api/queue/join", b" " * 1_000_001)[0] == 403


# Watching


def test_any_name_survives_the_configuration(tmp_path: Path) -> None:
    name = 'gate "1" \\ 三号门 \x7f'

    page = tomllib.loads(configuration(wish(tmp_path, camera=name, labels=("红色 car", 'a "b"'))))

    assert page["camera"]["name"] == name
    assert page["detect"]["labels"] == ["红色 car", 'a "b"']
    assert page["line"][0]["to"] == [1.0, 0.5]


def test_pictures_are_watched_by_the_program_and_its_events_can_be_searched(
    photos: Path, tmp_path: Path, home: Path
) -> None:
    frames = panned(photos, tmp_path / "frames")
    source = source_of([str(path) for path in frames], home)

    *_, seen = Watching(wish(source), home).seen()

    assert seen.counts() == [("cat", 1, 1, 0)]
    assert seen.summary is not None
    assert seen.summary["frames"] == len(frames)
    assert seen.summary["decision"]["target"] in {found.target for found in npu.probe() if found.available}
    assert all((seen.folder / event["thumbnail"]).is_file() for event in seen.events)
    with ns.Gallery.open(seen.folder / "events.nsg", read_only=True) as gallery:
        assert gallery.stats().cameras == {"gate-1": 2}


def test_a_watch_that_fails_says_the_programs_own_line(photos: Path, tmp_path: Path, home: Path) -> None:
    frames = panned(photos, tmp_path / "frames", 2)

    with pytest.raises(ns.InputError, match="xylophone factory cannot be judged"):
        list(Watching(wish(frames[0].parent, labels=("xylophone factory",)), home).seen())


def test_a_watch_can_be_stopped_and_sums_up(photos: Path, tmp_path: Path, home: Path) -> None:
    frames = panned(photos, tmp_path / "frames", 4)
    for number in range(4, 400):
        shutil.copy(frames[2], frames[0].parent / f"{number:03}.jpg")
    watching = Watching(wish(frames[0].parent, most=2000), home)

    for seen in watching.seen():
        if seen.events and seen.summary is None:
            watching.stop()

    assert seen.stopped
    assert seen.summary is not None
    assert seen.summary["frames"] < 400


def test_the_preview_shows_the_line_over_the_first_frame(photos: Path, tmp_path: Path) -> None:
    frames = panned(photos, tmp_path / "frames", 2)

    picture = preview(frames[0].parent, (0.0, 0.75, 1.0, 0.75))

    assert picture.size == (400, 480)
    assert picture.getpixel((20, 360)) == (255, 196, 0)
    assert picture.getpixel((20, 240)) != (255, 196, 0)


# The command


def test_without_gradio_one_line_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)

    code = main(["demo"])

    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "pip install 'nearsight[demo]'" in said.err


def test_with_nothing_given_it_begins_with_photographs_of_installed_packages_or_says_the_first_step(
    home: Path, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(photographs, "CARRIED", {})

    nothing = begun(home)

    said = capsys.readouterr().err
    monkeypatch.setattr(photographs, "CARRIED", {"nearsight==1": ("nearsight_models/embedded/nano/caption.spm",)})
    assert nothing is None
    assert "nearsight demo --folder DIR" in said
    assert begun(home) == home / "photographs"
    assert "showing 1 photographs" in capsys.readouterr().err
    shutil.copytree(photos, tmp_path / "demo" / "photographs")
    assert begun(home) == tmp_path / "demo" / "photographs"


def test_a_port_is_checked_before_anything_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--port", "70000"]) == 2
    assert "a port is a number from 1 to 65535" in capsys.readouterr().err
