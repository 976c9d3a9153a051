"""Saying again what was said of a picture that looks the same: when, at what cost, and that it is told."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageEnhance

import nearsight as ns
from nearsight.caption import Memory
from nearsight_npu import Decision, Measured

SEEN = Decision(
    requested="auto",
    target="cpu",
    precision="int8",
    model_hash="",
    measured=Measured(latency_ms=4.0, bytes_in=1, bytes_out=1),
)


def caption(text: str) -> ns.Caption:
    return ns.Caption(text=text, language="en", confidence=0.7, grounding=(("dog", True),), decision=SEEN)


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


@pytest.fixture
def memory() -> Memory:
    kept = Memory(0.9, most=3)
    kept.keep("en", unit(1, 0, 0), caption("a dog"))
    kept.keep("en", unit(0, 1, 0), caption("a cat"))
    return kept


def test_the_nearest_picture_answers_with_its_verdicts(memory):
    said = memory.recall("en", unit(0.1, 1, 0), SEEN)

    assert said.text == "a cat"
    assert said.grounding == (("dog", True),)


def test_a_picture_below_the_threshold_is_described_anew(memory):
    cosine_below = memory.recall("en", unit(1, 0.5, 0), SEEN)  # .894

    assert cosine_below is None
    assert memory.recall("en", unit(1, 0.48, 0), SEEN).text == "a dog"  # .9015


def test_another_prompt_is_another_answer(memory):
    assert memory.recall("zh", unit(1, 0, 0), SEEN) is None


def test_the_decision_says_that_it_was_said_before_and_how_near_the_pictures_are(memory):
    (rung,) = memory.recall("en", unit(1, 0.1, 0), SEEN).decision.rungs

    assert rung.target == "memory"
    assert rung.reason == "said before of a picture with cosine 0.995; reused from 0.9 on"
    assert rung.confidence == 0.7


def test_the_oldest_is_forgotten_first(memory):
    memory.keep("en", unit(0, 0, 1), caption("a bird"))
    memory.keep("en", unit(1, 1, 1), caption("a zoo"))

    assert len(memory) == 3
    assert memory.recall("en", unit(1, 0, 0), SEEN) is None
    assert memory.recall("en", unit(0, 1, 0), SEEN).text == "a cat"


def test_a_memory_of_one_keeps_the_last():
    kept = Memory(0.9, most=1)
    for vector, text in ((unit(1, 0), "a dog"), (unit(0, 1), "a cat")):
        kept.keep("en", vector, caption(text))

    assert len(kept) == 1
    assert kept.recall("en", unit(0, 1), SEEN).text == "a cat"


def test_many_threads_lose_nothing():
    kept, vectors = Memory(0.999, most=400), np.eye(400, dtype=np.float32)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda at: kept.keep("en", vectors[at], caption(str(at))), range(400)))
        said = list(pool.map(lambda at: kept.recall("en", vectors[at], SEEN).text, range(400)))

    assert said == [str(at) for at in range(400)]


@pytest.mark.parametrize("reuse", [0, -0.5, 1.5, True, "0.9", float("nan")])
def test_a_threshold_is_a_cosine(reuse):
    with pytest.raises(ns.InputError, match="reuse="):
        Memory(reuse)


@pytest.mark.parametrize("most", [0, 2.0, True])
def test_a_memory_is_bounded(most):
    with pytest.raises(ns.InputError, match="most="):
        Memory(0.9, most)


def test_a_captioner_says_again_only_what_looks_the_same(photos):
    captioner = ns.Captioner("nano", reuse=0.97)
    cat = Image.open(photos / "cat.jpg")

    first, again, brighter, other, zh = (
        captioner.caption(picture, language)
        for picture, language in (
            (cat, "en"),
            (cat, "en"),
            (ImageEnhance.Brightness(cat).enhance(1.03), "en"),
            (photos / "rocket.jpg", "en"),
            (cat, "zh"),
        )
    )

    assert [said.decision.rungs[-1].target for said in (first, again, brighter, other, zh)] == [
        "cpu",
        "memory",
        "memory",
        "cpu",
        "cpu",
    ]
    assert (again.text, again.grounding, again.confidence) == (first.text, first.grounding, first.confidence)
    # The tower alone ran.
    assert again.decision.measured.bytes_in == 224 * 224 * 3
    assert again.decision.measured.bytes_in < first.decision.measured.bytes_in


def test_a_captioner_remembers_nothing_unless_asked(photos):
    captioner = ns.Captioner("nano")

    said = [captioner.caption(photos / "cat.jpg") for _ in range(2)]

    assert {one.decision.rungs[-1].target for one in said} == {"cpu"}


def test_a_memory_may_be_shared_by_captioners_that_differ(photos):
    memory = Memory(0.97)
    greedy, beam = ns.Captioner("nano", reuse=memory, beams=1), ns.Captioner("nano", reuse=memory, beams=2)

    said = [one.caption(photos / "cat.jpg") for one in (greedy, beam, greedy, beam)]

    assert [one.decision.rungs[-1].target for one in said] == ["cpu", "cpu", "memory", "memory"]
    assert said[2].text == said[0].text
    assert said[3].text == said[1].text
