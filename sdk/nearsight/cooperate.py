"""Which rungs each capability has: the model on this machine, then, where the policy allows it, one elsewhere.

For a capability with a second rung (captioning and the agent have one):

    policy = current(self._policy)                # the block's `ns.policy(...)`, else the constructor's
    climbed = climb(
        policy,
        local=lambda: answer,                     # () -> A: ask the small model; always called, once
        confidence=lambda answer: .4,             # A -> 0 to 1, or None where nobody can tell (then no climbing)
        request=lambda answer: Request(...),      # A -> what to ask elsewhere; only called to climb
        accept=lambda text, answer: other,        # (what was said, A) -> A; raises RemoteError for what cannot be used
    )
    climbed.answer                                # the other's answer, or the local one
    climbed.decision(answer.decision)             # the local answer's decision, with the rungs tried and what was sent

`climb` never raises for what happens elsewhere: on any failure the answer is the local one, and the decision's last
rung is marked `failed` and says why. What `local`, `confidence` and `request` raise is passed on. Whatever `request`
gives goes through `privacy.redact` before anything leaves. `Request` is `nearsight_npu.remote.Request`: an instruction,
a text, and `pictures=(Picture(source=...),)`, where a source is anything that `read_image` takes. A question that is
about a picture is asked with `picture=True`, so that it does not go out without it.

Captioning is put together here: `captioned(policy, picture, local=..., language="en", max_words=20) -> Caption`.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from nearsight.errors import InputError, RemoteError
from nearsight_npu import Measured, Policy, Rung

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nearsight.caption.captioner import Caption
    from nearsight.pictures import PictureSource
    from nearsight_npu import Decision
    from nearsight_npu.ladder import Outcome, Step
    from nearsight_npu.remote import Request

A = TypeVar("A")
UNSTATED = "unstated"


class _Block:
    """One block's policy, and whether the block has ended: a task that was started in it sees it after that, too."""

    __slots__ = ("ended", "value")

    def __init__(self, value: Policy) -> None:
        self.value = value
        self.ended = False


_blocks: ContextVar[tuple[_Block, ...]] = ContextVar("nearsight_policies", default=())


@contextmanager
def policy(value: Policy) -> Iterator[Policy]:
    """Let a policy hold for a block, in place of those that were given to constructors.

    It holds for the code that the block runs, tasks of asyncio that it starts included; a task that outlives the block
    sends nothing, and a thread that the block starts sees the constructors' policies. Of several blocks the one that
    began last holds, in whatever order they end. A generator that opens a block keeps it open for whoever iterates
    over it, until the generator goes past it or is closed: open the block around the loop instead. `strict` is read
    where a model is loaded, and only from its constructor.

    Args:
        value: how far answers may go.

    Raises:
        InputError: if it is no policy.
    """
    if not isinstance(value, Policy):
        raise InputError(f"policy({type(value).__name__}) was asked for; give a nearsight.Policy(...)")
    block = _Block(value)
    _blocks.set((*_blocks.get(), block))
    try:
        yield value
    finally:
        # Generators end out of order, and in contexts other than the one they began in: each takes out its own.
        block.ended = True
        _blocks.set(tuple(other for other in _blocks.get() if other is not block))


def current(own: Policy | None) -> Policy:
    """Give the policy that holds here: the innermost block's, else the constructor's own, else the default."""
    blocks = _blocks.get()
    if not blocks:
        return own or Policy()
    block = blocks[-1]
    return replace(block.value, cloud=False) if block.ended else block.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Climbed(Generic[A]):
    """An answer, and how it was come by.

    Attributes:
        answer: the answer.
        rungs: what was tried, this machine first; the last one that did not fail gave the answer.
        sent: what left this machine.
        measured: what the other machine's answer cost; None where the answer is this machine's.
    """

    answer: A
    rungs: tuple[Rung, ...]
    sent: tuple[str, ...] = ()
    measured: Measured | None = None

    def decision(self, local: Decision) -> Decision:
        """Give the decision of the answer.

        Args:
            local: the decision of this machine's answer; its last rung is the first one here.
        """
        here, *elsewhere = self.rungs
        last = local.rungs[-1] if local.rungs else replace(here, target=local.target, precision=local.precision)
        reason = "; ".join(dict.fromkeys(filter(None, (last.reason, here.reason))))
        judged = replace(last, confidence=here.confidence, latency_ms=here.latency_ms, reason=reason)
        told = replace(local, rungs=(*local.rungs[:-1], judged, *elsewhere), sent=(*local.sent, *self.sent))
        if self.measured is None:
            return told
        there = elsewhere[-1]
        return replace(
            told, target=there.target, precision=there.precision, model_hash="", predicted=None, measured=self.measured
        )


def climb(
    policy: Policy,
    *,
    local: Callable[[], A],
    confidence: Callable[[A], float | None],
    request: Callable[[A], Request],
    accept: Callable[[str, A], A],
    picture: bool = False,
) -> Climbed[A]:
    """Ask this machine's model, and a larger one elsewhere if the policy lets it and the first is not sure enough.

    Args:
        policy: how far the answer may go.
        local: asks the model on this machine.
        confidence: says how sure its answer is, 0 to 1; None where nobody can tell.
        request: puts the question for the other machine.
        accept: makes an answer of what that machine says; raises `RemoteError` if it cannot be used.
        picture: whether the question is about a picture, and makes no sense without it.

    Returns:
        The answer, with the rungs that were tried and what was sent.
    """
    from nearsight_npu.ladder import LOCAL, Outcome, next_rung

    begin = time.perf_counter()
    answer = local()
    sure = confidence(answer)
    outcomes = [Outcome(rung=LOCAL, ms=_ms_since(begin), confidence=sure)]
    step = next_rung(policy, outcomes, picture=picture)
    reason = step.reason if policy.cloud else ""
    rungs = [Rung(target=LOCAL, precision=UNSTATED, confidence=sure, reason=reason, latency_ms=outcomes[0].ms)]
    sent: list[str] = []
    begin = time.perf_counter()
    question = _Question(policy, request(answer)) if step.rung else None
    while question is not None and step.rung:
        tried = _tried(question, step, lambda said: accept(said, answer), begin)
        rungs.append(tried.rung)
        sent += tried.sent
        if tried.answers:
            return Climbed(answer=tried.answers[0], rungs=tuple(rungs), sent=tuple(sent), measured=tried.measured)
        begin = time.perf_counter()
        outcomes.append(tried.outcome)
        step = next_rung(policy, outcomes, picture=picture)
        rungs[-1] = replace(rungs[-1], reason="; ".join(filter(None, (rungs[-1].reason, step.reason))))
    return Climbed(answer=answer, rungs=tuple(rungs), sent=tuple(sent))


_TASKS = {
    "en": "You describe photographs. Answer with one plain sentence in English, and nothing else.",
    "zh": "你为照片写说明。只用一句中文回答，不要写别的。",
}
_QUESTIONS = {
    "en": "What does this picture show? At most {most} words. Say only what can be seen.",
    "zh": "这张照片里有什么？不超过{most}个字。只说看得见的。",
}
_BLURRED = {
    "en": " It was blurred on purpose; do not mention that.",
    "zh": "照片被有意模糊过，不要提这一点。",
}
# Models count badly; an answer is refused when it is longer than this many times what was asked for.
_SLACK = 2
_CHINESE = re.compile("[\u3400-\u9fff]")
_LETTER = re.compile(r"[^\W\d_]")


def captioned(
    policy: Policy, picture: PictureSource, *, local: Callable[[], Caption], language: str, max_words: int
) -> Caption:
    """Caption a picture here, and elsewhere if the policy lets it and the caption from here is not sure enough.

    A caption from elsewhere has no confidence and no grounding: nobody here judged it.

    Args:
        policy: how far the answer may go.
        picture: the picture, as `read_image` takes it; it is only looked at to climb.
        local: captions it on this machine.
        language: "en" or "zh".
        max_words: the most words to ask for (characters in Chinese).
    """
    question = _QUESTIONS[language].format(most=max_words) + (_BLURRED[language] if policy.privacy == "blur" else "")

    def request(_: Caption) -> Request:
        from nearsight_npu.remote import Picture, Request

        source = _unshared(picture)
        return Request(
            instruction=_TASKS[language], text=question, pictures=(Picture(source=source),), max_tokens=6 * max_words
        )

    def accept(said: str, answer: Caption) -> Caption:
        return replace(answer, text=sentence(said, language, max_words), confidence=None, grounding=())

    climbed = climb(
        policy, local=local, confidence=lambda said: said.confidence, request=request, accept=accept, picture=True
    )
    return replace(climbed.answer, decision=climbed.decision(climbed.answer.decision))


def _unshared(picture: PictureSource) -> PictureSource:
    """Give a source that a thread may go on reading when its caller no longer waits: of an open file, its bytes."""
    if hasattr(picture, "read") and hasattr(picture, "seek"):
        picture.seek(0)
        return bytes(picture.read())
    return picture


def sentence(said: str, language: str, max_words: int) -> str:
    """Check that what another machine said is a caption: one line, in the language asked for, not too long.

    Args:
        said: what it said.
        language: "en" or "zh".
        max_words: the most words that were asked for (characters in Chinese).

    Returns:
        The caption, without quotation marks around it.

    Raises:
        RemoteError: if it is none.
    """
    text = said.strip().strip("\"'“”「」").strip()
    lines = len(text.splitlines())
    if lines != 1:
        raise RemoteError(f"one sentence was asked for; the answer has {lines} lines")
    chinese, letters = len(_CHINESE.findall(text)), len(_LETTER.findall(text))
    if not letters or (chinese * 2 > letters) != (language == "zh"):
        raise RemoteError(f'an answer in "{language}" was asked for; this is in another language')
    length, unit = (chinese, "characters") if language == "zh" else (len(text.split()), "words")
    if length > _SLACK * max_words:
        raise RemoteError(f"at most {max_words} {unit} were asked for; the answer has {length}")
    return text


class _Question:
    """A question under a policy: what may leave of it is made once, however often it is asked."""

    def __init__(self, policy: Policy, request: Request) -> None:
        self.policy = policy
        self.request = request
        self._redacted: Request | None = None

    def redact(self, request: Request) -> Request:
        from nearsight.privacy import redact

        if self._redacted is None:
            self._redacted = redact(request, privacy=self.policy.privacy)
        return self._redacted


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried(Generic[A]):
    """What came of asking elsewhere once; `answers` holds one answer, or none."""

    answers: tuple[A, ...]
    rung: Rung
    outcome: Outcome
    sent: tuple[str, ...]
    measured: Measured | None = None


def _tried(question: _Question, step: Step, accept: Callable[[str], A], begin: float) -> _Tried[A]:
    from nearsight_npu import errors
    from nearsight_npu.endpoint import endpoint_at
    from nearsight_npu.ladder import CLOUD, Outcome
    from nearsight_npu.remote import ask, without_key

    assert question.policy.endpoint is not None
    assert step.left_ms is not None
    endpoint = endpoint_at(question.policy.endpoint)
    time.sleep(step.wait_ms / 1e3)
    sent: tuple[str, ...] = ()
    rung = partial(Rung, target=CLOUD, precision=UNSTATED, confidence=None)
    try:
        reply = ask(
            endpoint,
            question.request,
            redact=question.redact,
            # Since `begin` a question was put and modules were loaded.
            left_ms=step.wait_ms + step.left_ms - _ms_since(begin),
            model=question.policy.cloud_model,
        )
        sent = reply.sent
        answer = accept(reply.text)
    except (errors.RemoteError, RemoteError) as error:
        sent, retry_ms = (error.sent, error.retry_ms) if isinstance(error, errors.RemoteError) else (sent, None)
        ms, reason = _ms_since(begin), without_key(str(error))
        outcome = Outcome(rung=CLOUD, ms=ms, error=reason, retry_ms=retry_ms)
        return _Tried(answers=(), rung=rung(reason=reason, latency_ms=ms, failed=True), outcome=outcome, sent=sent)
    ms = _ms_since(begin)
    return _Tried(
        answers=(answer,),
        rung=rung(reason=f"{reply.model or 'a model'} at {endpoint.place} answered", latency_ms=ms),
        outcome=Outcome(rung=CLOUD, ms=ms),
        sent=sent,
        measured=Measured(latency_ms=ms, bytes_in=reply.bytes_out, bytes_out=reply.bytes_in),
    )


def _ms_since(begin: float) -> float:
    return (time.perf_counter() - begin) * 1e3
