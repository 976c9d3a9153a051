"""Two rungs: this machine first, a larger one elsewhere only if it may be asked; on any failure this machine's answer."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from base64 import b64decode
from contextvars import copy_context
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import nearsight as ns
from nearsight.caption import Caption
from nearsight.cooperate import captioned, climb, current, sentence
from nearsight.errors import InputError, RemoteError
from nearsight_npu import Decision, Rung
from nearsight_npu.loopback import RESET, FakeCloud, answer, completion
from nearsight_npu.remote import Request, forget_failures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOCAL = Caption(
    text="a thing",
    language="en",
    confidence=0.3,
    decision=Decision(
        requested="auto",
        target="cpu",
        precision="int8",
        model_hash="ab",
        rungs=(Rung(target="cpu", precision="int8", confidence=None, reason="the first choice"),),
    ),
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture(autouse=True)
def _unburdened(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start without failures, a key or an address."""
    monkeypatch.delenv("NEARSIGHT_API_KEY", raising=False)
    monkeypatch.delenv("NEARSIGHT_ENDPOINT", raising=False)
    forget_failures()
    yield
    forget_failures()


@pytest.fixture
def captioning(photos: Path) -> Callable[..., Caption]:
    """Caption a photograph of an astronaut with a small model that is not sure."""

    def caption(policy: ns.Policy, local: Caption = LOCAL, max_words: int = 20) -> Caption:
        return captioned(
            policy, photos / "astronaut.jpg", local=lambda: local, language=local.language, max_words=max_words
        )

    return caption


def towards(there: FakeCloud, **values: Any) -> ns.Policy:
    return ns.Policy(**{"threshold": 0.5, "cloud": True, "endpoint": there.url, **values})


def test_an_unsure_caption_is_asked_for_elsewhere_and_the_decision_tells_all(
    captioning: Callable[..., Caption],
) -> None:
    with FakeCloud("A smiling astronaut in an orange suit.") as cloud:
        said = captioning(towards(cloud, cloud_model="large"))

    place = cloud.url.removeprefix("http://").removesuffix("/v1")
    decision = said.decision
    here, there = decision.rungs
    assert said.text == "A smiling astronaut in an orange suit."
    assert said.confidence is None
    assert (here.target, here.confidence, here.failed) == ("cpu", 0.3, False)
    assert here.reason == "the first choice; its confidence is 0.30, below the threshold 0.50"
    assert (there.target, there.confidence, there.failed) == ("cloud", None, False)
    assert there.reason == f"fake at {place} answered"
    assert here.latency_ms is not None
    assert there.latency_ms is not None
    assert (decision.requested, decision.target, decision.model_hash) == ("auto", "cloud", "")
    assert decision.measured is not None
    assert decision.measured.latency_ms == there.latency_ms
    assert decision.sent[0].startswith("text, ")
    assert decision.sent[1].startswith("picture 320x320 blurred, ")
    assert all(words.endswith(f" to {place}") for words in decision.sent)
    assert json.loads(json.dumps(decision.to_dict()))["rungs"][1]["target"] == "cloud"
    assert cloud.requests[0]["model"] == "large"


def test_what_arrives_there_is_the_blurred_picture(captioning: Callable[..., Caption]) -> None:
    def sent(privacy: str) -> Image.Image:
        with FakeCloud("An astronaut.") as cloud:
            captioning(towards(cloud, privacy=privacy))
        url = cloud.requests[0]["messages"][1]["content"][1]["image_url"]["url"]
        return Image.open(io.BytesIO(b64decode(url.removeprefix("data:image/jpeg;base64,"))))

    blur, whole = sent("blur"), sent("whole")

    assert blur.size == whole.size == (320, 320)
    assert sharpest(blur) < 24
    assert sharpest(whole) > 100


def sharpest(picture: Image.Image) -> int:
    """Give the largest difference in brightness between two neighbours."""
    grey = np.asarray(picture.convert("L"), np.int16)
    return int(max(np.abs(np.diff(grey, axis=axis)).max() for axis in (0, 1)))


@pytest.mark.parametrize(
    "values",
    [{"cloud": False}, {"privacy": "nothing"}, {"privacy": "text"}, {"threshold": None}, {"threshold": 0.3}],
    ids=["no cloud", "nothing may leave", "no picture may leave", "no threshold", "sure enough"],
)
def test_nobody_is_asked_unless_everything_allows_it(
    values: dict[str, Any], captioning: Callable[..., Caption]
) -> None:
    with FakeCloud("never") as cloud:
        said = captioning(towards(cloud, **values))
        with ns.policy(towards(cloud, **values)):
            captioning(current(None))

        assert cloud.connections == 0
    assert said.text == "a thing"
    assert said.decision.sent == ()
    assert len(said.decision.rungs) == 1


def test_an_endpoint_alone_sends_nothing(captioning: Callable[..., Caption], monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeCloud("never") as cloud:
        monkeypatch.setenv("NEARSIGHT_ENDPOINT", cloud.url)
        captioning(ns.Policy(threshold=0.9))
        captioning(ns.Policy(threshold=0.9, endpoint=cloud.url))

        assert cloud.connections == 0


def test_a_caption_that_nobody_can_judge_stays_here(captioning: Callable[..., Caption]) -> None:
    with FakeCloud("never") as cloud:
        said = captioning(towards(cloud), replace(LOCAL, confidence=None))

        assert cloud.connections == 0
    assert "nobody can tell how sure it is" in said.decision.rungs[0].reason


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        pytest.param((answer(401, b""),), "401", id="401"),
        pytest.param((answer(404, b""),), "404", id="404"),
        pytest.param((), "without an answer", id="closes"),
        pytest.param((RESET,), "the connection broke", id="resets"),
        pytest.param((30.0,), "no whole answer", id="hangs"),
        pytest.param((HEAD + b"Content-Length: 99\r\n\r\n", *[b" ", 0.1] * 99), "no whole answer", id="dribbles"),
        pytest.param((answer(200, b"<html>", "text/html"),), "text/html", id="HTML"),
        pytest.param((answer(200, b"{"),), "not JSON", id="half JSON"),
        pytest.param((answer(200, b" " * 2_000_000),), "the limit is", id="too large"),
        pytest.param((answer(302, b"", Location="https://elsewhere.example"),), "302", id="redirects"),
        pytest.param((completion("a " * 100),), "at most 20 words", id="too many words"),
        pytest.param((completion("A truck.\nAnd a cat."),), "2 lines", id="two lines"),
        pytest.param((completion("一辆卡车。"),), 'in "en" was asked for', id="another language"),
    ],
)
def test_on_any_failure_the_answer_is_this_machines_and_says_so(
    parts: tuple[bytes | float | str, ...], reason: str, captioning: Callable[..., Caption]
) -> None:
    with FakeCloud(lambda _: parts) as cloud:
        said = captioning(towards(cloud, budget_ms=700 if reason == "no whole answer" else 20_000))

    assert said.text == "a thing"
    assert said.confidence == 0.3
    here, there = said.decision.rungs
    assert not here.failed
    assert there.failed
    assert reason in there.reason
    assert (said.decision.target, said.decision.model_hash) == ("cpu", "ab")
    # It had left, whatever came of it.
    assert len(said.decision.sent) == 2


def test_a_busy_cloud_is_asked_once_more(captioning: Callable[..., Caption]) -> None:
    replies = [answer(429, b"", Retry_After="0"), completion("An astronaut.")]

    with FakeCloud(lambda _: [replies[len(cloud.requests) - 1]]) as cloud:
        said = captioning(towards(cloud))

    assert said.text == "An astronaut."
    assert [rung.failed for rung in said.decision.rungs] == [False, True, False]
    assert "429" in said.decision.rungs[1].reason
    assert said.decision.rungs[1].reason.endswith("; a second try follows")
    assert len(said.decision.sent) == 4


def test_and_not_twice_more(captioning: Callable[..., Caption]) -> None:
    with FakeCloud(lambda _: [answer(503, b"")]) as cloud:
        said = captioning(towards(cloud))

        assert cloud.connections == 2
    assert said.text == "a thing"


def test_there_is_no_second_try_that_would_come_too_late(captioning: Callable[..., Caption]) -> None:
    with FakeCloud(lambda _: [answer(429, b"", Retry_After="3600")]) as cloud:
        said = captioning(towards(cloud))

        assert cloud.connections == 1
    assert "a second try in 3600000 ms: no time for it" in said.decision.rungs[1].reason


def test_nobody_listens_and_nothing_is_sent(captioning: Callable[..., Caption]) -> None:
    with FakeCloud("never") as cloud:
        pass

    said = captioning(towards(cloud))

    assert said.text == "a thing"
    assert [rung.failed for rung in said.decision.rungs] == [False, True, True]
    assert "cannot be reached" in said.decision.rungs[2].reason
    assert said.decision.sent == ()


def test_the_budget_holds_over_everything(captioning: Callable[..., Caption]) -> None:
    with FakeCloud(lambda _: [HEAD + b"\r\n", *[b" ", 0.05] * 800]) as cloud:
        begin = time.perf_counter()
        said = captioning(towards(cloud, budget_ms=600))
        took_s = time.perf_counter() - begin

    assert said.text == "a thing"
    assert took_s < 8


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A picture of 48 megapixels in two formats: decoding it whole and sending it takes seconds."""
    tile = np.random.default_rng(0).integers(0, 255, (500, 500, 3), np.uint8)
    picture = Image.fromarray(np.tile(tile, (12, 16, 1)))
    paths = {kind: tmp_path_factory.mktemp("huge") / f"huge.{kind}" for kind in ("jpg", "png")}
    for path in paths.values():
        picture.save(path, quality=80, compress_level=1)
    return paths


@pytest.mark.parametrize("privacy", ["blur", "whole"])
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_the_budget_holds_over_a_picture_that_takes_long_to_decode(
    kind: str, privacy: str, huge: dict[str, Path]
) -> None:
    with FakeCloud(lambda _: [30.0]) as cloud:
        begin = time.perf_counter()
        said = captioned(
            towards(cloud, budget_ms=300, privacy=privacy),
            huge[kind],
            local=lambda: LOCAL,
            language="en",
            max_words=9,
        )
        took_s = time.perf_counter() - begin

    # What nobody waits for any more goes on; not into the next test.
    for thread in threading.enumerate():
        if thread.name == "nearsight-in-time":
            thread.join()
    assert said.decision.rungs[-1].failed
    assert took_s < 1.5


@pytest.mark.parametrize("kind", ["path", "bytes", "file", "picture", "array"])
def test_a_picture_of_any_kind_leaves_alike(kind: str, photos: Path) -> None:
    path = photos / "astronaut.jpg"
    with FakeCloud("An astronaut.") as cloud, path.open("rb") as file, Image.open(path) as picture:
        source = {
            "path": path,
            "bytes": path.read_bytes(),
            "file": file,
            "picture": picture,
            "array": np.asarray(Image.open(path).convert("RGB")),
        }[kind]
        said = captioned(towards(cloud), source, local=lambda: LOCAL, language="en", max_words=9)
        assert not file.closed

    assert said.text == "An astronaut."
    assert said.decision.sent[1].startswith("picture 320x320 blurred, ")


def test_a_picture_is_made_ready_once_for_both_tries(
    captioning: Callable[..., Caption], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nearsight import privacy

    calls: list[Request] = []
    redact = privacy.redact

    def counting(request: Request, *, privacy: str) -> Request:
        calls.append(request)
        return redact(request, privacy=privacy)

    monkeypatch.setattr(privacy, "redact", counting)
    replies = [answer(429, b"", Retry_After="0"), completion("An astronaut.")]

    with FakeCloud(lambda _: [replies[len(cloud.requests) - 1]]) as cloud:
        said = captioning(towards(cloud))

    assert said.text == "An astronaut."
    assert len(calls) == 1
    assert cloud.requests[0] == cloud.requests[1]


def test_a_small_model_that_takes_all_the_time_leaves_none_for_the_cloud(photos: Path) -> None:
    def slow() -> Caption:
        time.sleep(0.1)
        return LOCAL

    with FakeCloud("never") as cloud:
        said = captioned(towards(cloud, budget_ms=100), photos / "cat.jpg", local=slow, language="en", max_words=9)

        assert cloud.connections == 0
    assert "no time for it, with 0 of 100 ms left" in said.decision.rungs[0].reason


def test_a_dead_cloud_is_left_alone_after_a_while(captioning: Callable[..., Caption]) -> None:
    with FakeCloud(lambda _: [answer(401, b"")]) as cloud:
        for _ in range(5):
            said = captioning(towards(cloud))

        assert cloud.connections == 3
    assert "left alone" in said.decision.rungs[1].reason
    assert said.decision.sent == ()


def test_the_key_is_nowhere_in_the_answer(captioning: Callable[..., Caption], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARSIGHT_API_KEY", "sk-very-secret")

    with FakeCloud(lambda _: [answer(401, b'{"error": "bad key sk-very-secret"}')]) as cloud:
        policy = towards(cloud)
        said = captioning(policy)

    assert cloud.headers[0]["authorization"] == "Bearer sk-very-secret"
    assert "sk-very" not in repr(policy) + repr(said) + json.dumps(said.to_dict())


@pytest.mark.parametrize("said", ["The key is sk-very-secret.", "sk-very-secret"])
def test_an_answer_that_repeats_the_key_is_not_kept(
    said: str, captioning: Callable[..., Caption], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARSIGHT_API_KEY", "sk-very-secret")

    with FakeCloud(said) as cloud:
        kept = captioning(towards(cloud))

    assert kept.text == "a thing"
    assert kept.decision.rungs[-1].failed
    assert "the answer repeats the key" in kept.decision.rungs[-1].reason
    assert "sk-very" not in repr(kept) + json.dumps(kept.to_dict())


def test_what_accept_says_of_an_answer_does_not_show_the_key_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARSIGHT_API_KEY", "sk-very-secret")

    def accept(said: str, _: str) -> str:
        raise RemoteError(f"there is no tool {json.loads(said)}")

    with FakeCloud('"sk-ver\\u0079-secret"') as cloud:
        climbed = climb(
            towards(cloud),
            local=lambda: "perhaps seven",
            confidence=lambda _: 0.2,
            request=lambda _: Request(instruction="", text="Which tool?"),
            accept=accept,
        )

    assert climbed.rungs[-1].reason == "there is no tool ***"


def test_what_this_machine_raises_is_passed_on() -> None:
    def broken() -> str:
        raise InputError("no picture")

    with pytest.raises(InputError, match="no picture"):
        climb(
            ns.Policy(),
            local=broken,
            confidence=lambda _: 1.0,
            request=lambda _: Request(instruction="", text=""),
            accept=lambda said, _: said,
        )


def test_words_alone_climb_where_words_may_leave() -> None:
    with FakeCloud("forty-two") as cloud:
        climbed = climb(
            towards(cloud, privacy="text"),
            local=lambda: "perhaps seven",
            confidence=lambda _: 0.2,
            request=lambda local: Request(instruction="", text=f"Is it {local}?"),
            accept=lambda said, _: said,
        )

    assert climbed.answer == "forty-two"
    assert cloud.requests[0]["messages"] == [{"role": "user", "content": "Is it perhaps seven?"}]
    assert len(climbed.sent) == 1


def fail_within(policy: ns.Policy) -> None:
    with ns.policy(policy):
        assert current(None) is policy
        raise ZeroDivisionError


def test_a_block_has_its_own_policy_and_the_innermost_holds() -> None:
    own, outer, inner = ns.Policy(threshold=0.1), ns.Policy(threshold=0.2), ns.Policy(threshold=0.3)

    assert current(None) == ns.Policy()
    assert current(own) is own
    with ns.policy(outer) as held:
        assert held is outer
        assert current(own) is outer
        with pytest.raises(ZeroDivisionError):
            fail_within(inner)
        assert current(own) is outer
    assert current(own) is own


def test_a_blocks_policy_holds_in_its_tasks_and_not_in_other_threads() -> None:
    async def ask() -> ns.Policy:
        return current(None)

    async def both(policy: ns.Policy) -> ns.Policy:
        with ns.policy(policy):
            return await asyncio.create_task(ask())

    seen: list[ns.Policy] = []
    policy = ns.Policy(threshold=0.2)

    assert asyncio.run(both(policy)) is policy
    with ns.policy(policy):
        thread = threading.Thread(target=lambda: seen.append(current(None)))
        thread.start()
        thread.join()
    assert seen == [ns.Policy()]


def within(policy: ns.Policy) -> Iterator[ns.Policy]:
    """Suspend in a block."""
    with ns.policy(policy):
        yield current(None)
        yield current(None)


OPEN = {"threshold": 1.0, "cloud": True, "endpoint": "http://127.0.0.1:1", "privacy": "whole"}


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_blocks_may_end_in_any_order_and_none_stays(order: tuple[int, ...]) -> None:
    policies = [ns.Policy(**OPEN, cloud_model=name) for name in "abc"]
    blocks = [within(policy) for policy in policies]
    still = list(policies)

    for block in blocks:
        next(block)
    for ended in order:
        assert current(None) is still[-1]
        blocks[ended].close()
        still.remove(policies[ended])

    assert current(None) == ns.Policy()


def test_after_blocks_that_ended_out_of_order_nothing_is_sent(captioning: Callable[..., Caption]) -> None:
    with FakeCloud("An astronaut.") as cloud:
        first, second = (within(towards(cloud, privacy="whole")) for _ in range(2))
        next(first)
        next(second)
        first.close()
        second.close()
        said = captioning(current(None))

        assert cloud.connections == 0
    assert said.text == "a thing"


def test_equal_policies_of_two_blocks_are_told_apart() -> None:
    policy, closed = ns.Policy(**OPEN), ns.Policy()
    first, second = within(policy), within(closed)
    next(first)
    next(second)

    with ns.policy(policy):
        first.close()
        assert current(None) is policy
    assert current(None) is closed
    second.close()


def test_a_block_that_another_thread_ends_sends_nothing_any_more() -> None:
    def run() -> None:
        block = within(ns.Policy(**OPEN))
        next(block)
        thread = threading.Thread(target=block.close)
        thread.start()
        thread.join()
        seen.append(current(ns.Policy(**OPEN)))

    seen: list[ns.Policy] = []
    copy_context().run(run)

    assert [policy.cloud for policy in seen] == [False]
    assert not current(None).cloud


def test_a_task_that_outlives_its_block_sends_nothing() -> None:
    async def late(over: asyncio.Event) -> ns.Policy:
        await over.wait()
        return current(ns.Policy(**OPEN))

    async def both() -> tuple[ns.Policy, ns.Policy]:
        over = asyncio.Event()
        with ns.policy(ns.Policy(**OPEN)):
            task = asyncio.create_task(late(over))
            await asyncio.sleep(0)
        over.set()
        return await task, current(None)

    inside, outside = asyncio.run(both())

    assert (inside.cloud, inside.privacy) == (False, "whole")
    assert outside == ns.Policy()


def test_only_a_policy_can_hold() -> None:
    with pytest.raises(InputError, match=r"give a nearsight\.Policy"), ns.policy({"cloud": True}):  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize(
    ("said", "language", "text"),
    [
        ("A red truck.", "en", "A red truck."),
        (' "A red truck."\n', "en", "A red truck."),
        ("A café in Zürich, 2 people", "en", "A café in Zürich, 2 people"),
        ("“一辆红色的卡车。”", "zh", "一辆红色的卡车。"),
        ("一辆BMW停在路边", "zh", "一辆BMW停在路边"),
    ],
)
def test_a_sentence_is_taken_as_it_is_without_quotation_marks(said: str, language: str, text: str) -> None:
    assert sentence(said, language, 20) == text


@pytest.mark.parametrize(
    ("said", "language", "reason"),
    [
        ("", "en", "0 lines"),
        ('""', "en", "0 lines"),
        ("A truck.\n\nA cat.", "en", "3 lines"),
        ("12345", "en", "another language"),
        ("A truck 一辆卡车停在路边", "en", "another language"),
        ("A red truck.", "zh", "another language"),
        ("word " * 41, "en", "at most 20 words were asked for; the answer has 41"),
        ("车" * 41, "zh", "at most 20 characters were asked for; the answer has 41"),
    ],
)
def test_what_is_no_caption_is_refused(said: str, language: str, reason: str) -> None:
    with pytest.raises(RemoteError, match=reason):
        sentence(said, language, 20)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_question_names_language_and_length(language: str, captioning: Callable[..., Caption]) -> None:
    said = {"en": "A woman.", "zh": "一位宇航员。"}[language]

    with FakeCloud(said) as cloud:
        found = captioning(towards(cloud), replace(LOCAL, language=language), max_words=7)

    asked = cloud.requests[0]["messages"][1]["content"][0]["text"]
    assert found.text == said
    assert "7" in asked
    assert any("一" <= mark <= "鿿" for mark in asked) == (language == "zh")
