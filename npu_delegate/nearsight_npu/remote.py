"""Asks a machine elsewhere: any server that speaks the OpenAI-compatible chat protocol, with words and pictures.

Nothing is sent that `redact` has not seen. It is handed down by whoever knows what pictures and words are; here a
picture is something that cannot be sent until `redact` has made JPEG bytes of it.

    reply = ask(endpoint_at("https://host/v1"), request, redact=redact, left_ms=5000)

The key is read from the environment variable NEARSIGHT_API_KEY at each call, sent to the endpoint, and shown nowhere:
an answer that repeats it is refused.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import threading
from collections import defaultdict
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from nearsight_npu.breaker import Breaker
from nearsight_npu.errors import RemoteError, one_line
from nearsight_npu.ladder import LEAST_MS
from nearsight_npu.wire import RETRY_MS, Deadline, TooLargeError, connected, in_time, post

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearsight_npu.endpoint import Endpoint
    from nearsight_npu.wire import Answered

    Redact = Callable[["Request"], "Request"]

KEY_VARIABLE = "NEARSIGHT_API_KEY"
# Servers that hold one model take any name; the others say which they have.
ANY_MODEL = "default"
# Shorter ones stand for "no key" on servers that want some word there ("none", "EMPTY"), and answers may hold them.
_LEAST_KEY = 6
_JPEG = b"\xff\xd8\xff"
_UNFINISHED = ("length", "content_filter", "tool_calls", "function_call")
_REMEDIES = {
    400: "ask for another model (cloud_model) or server",
    401: f"set the environment variable {KEY_VARIABLE}",
    403: f"set the environment variable {KEY_VARIABLE} to a key that may do this",
    404: "check the endpoint's path and name a model it has (cloud_model)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture to ask about.

    Attributes:
        source: whatever the caller holds; only `redact` looks at it, and it is never sent.
        jpeg: what may be sent; only `redact` fills it.
        note: what `jpeg` is, in words, such as "picture 336x224 blurred".
    """

    source: Any = None
    jpeg: bytes = b""
    note: str = "picture"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A question.

    Attributes:
        instruction: what the model is told about its task.
        text: the question itself.
        pictures: what it is about.
        max_tokens: the longest answer to ask for, in the model's tokens.
        max_chars: the longest answer to accept, in characters.
    """

    instruction: str
    text: str
    pictures: tuple[Picture, ...] = ()
    max_tokens: int = 128
    max_chars: int = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer.

    Attributes:
        text: what the model says, without white space around it.
        model: what the server calls the model; empty where it does not say.
        sent: what left this machine, in words and bytes.
        bytes_out: size of the request's body.
        bytes_in: size of the answer's body.
    """

    text: str
    model: str
    sent: tuple[str, ...]
    bytes_out: int
    bytes_in: int


def ask(endpoint: Endpoint, request: Request, *, redact: Redact, left_ms: float, model: str | None = None) -> Reply:
    """Ask once.

    Args:
        endpoint: whom.
        request: what; it is handed to `redact` first, and only what comes back is sent.
        redact: takes out what may not leave, and makes JPEG bytes of pictures that may; it runs in a thread, which is
            left to itself where the time is over first.
        left_ms: milliseconds that everything may take together, `redact` included.
        model: the name of the model there; None where any will do.

    Returns:
        The answer, and what was sent for it.

    Raises:
        RemoteError: if nothing may be sent, or no answer comes that can be used; it says what had been sent.
    """
    deadline = Deadline(left_ms / 1e3)
    allowed = _allowed(endpoint, request, redact, deadline)
    body = _body(allowed, model)
    call = _Call(endpoint=endpoint, key=_key(), sent=_words(endpoint, allowed), left_ms=left_ms)
    breaker = _breaker(endpoint)
    if rest_s := breaker.blocked_s():
        raise RemoteError(f"{endpoint.place} has failed several times in a row; it is left alone for {rest_s:.0f} s")
    succeeded = False
    try:
        reply = call.reply(allowed, body, deadline)
        succeeded = True
    finally:
        breaker.note(succeeded=succeeded)
    return reply


def forget_failures() -> None:
    """Ask every endpoint again at once, whatever happened before in this process."""
    with _lock:
        _breakers.clear()


_breakers: dict[str, Breaker] = defaultdict(Breaker)
_lock = threading.Lock()


def _breaker(endpoint: Endpoint) -> Breaker:
    with _lock:
        return _breakers[endpoint.place + endpoint.path]


def without_key(text: str) -> str:
    """Make a text fit to be shown: the key in it, if there is one, becomes `***`."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    return text.replace(key, "***") if key else text


def _allowed(endpoint: Endpoint, request: Request, redact: Redact, deadline: Deadline) -> Request:
    if not callable(redact):
        raise RemoteError(f"{endpoint.place} was to be asked without a function that says what may leave; give redact")
    try:
        allowed = in_time(lambda: redact(request), deadline.left_s() - LEAST_MS / 1e3)
    except TimeoutError as error:
        raise RemoteError(
            f"{endpoint.place} was to be asked; what may leave was not ready in time; nothing was sent"
        ) from error
    missing = len(request.pictures) - len([picture for picture in allowed.pictures if picture.jpeg[:3] == _JPEG])
    if missing or len(allowed.pictures) > len(request.pictures):
        raise RemoteError(f"{endpoint.place} was to be asked about a picture that may not leave; nothing was sent")
    if not allowed.text.strip() and not allowed.pictures:
        raise RemoteError(f"{endpoint.place} was to be asked, and nothing may leave; nothing was sent")
    return allowed


def _body(request: Request, model: str | None) -> bytes:
    content: Any = request.text
    if request.pictures:
        urls = ["data:image/jpeg;base64," + base64.b64encode(picture.jpeg).decode() for picture in request.pictures]
        content = [{"type": "text", "text": request.text}]
        content += [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    messages = [{"role": "system", "content": request.instruction}] if request.instruction else []
    value = {
        "model": model or ANY_MODEL,
        "messages": [*messages, {"role": "user", "content": content}],
        "max_tokens": request.max_tokens,
        "temperature": 0,
        "stream": False,
    }
    return json.dumps(value).encode()


def _words(endpoint: Endpoint, request: Request) -> tuple[str, ...]:
    size = len((request.instruction + request.text).encode("utf-8", "replace"))
    pictures = [f"{picture.note}, {_size(len(picture.jpeg))} to {endpoint.place}" for picture in request.pictures]
    return (f"text, {_size(size)} to {endpoint.place}", *pictures)


def _size(count: int) -> str:
    return f"{count} bytes" if count < 1000 else f"{count / 1000:.1f} kB"


def _key() -> str:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        # Not repeated: it may be a key with a slip in it.
        raise RemoteError(f"{KEY_VARIABLE} holds characters that no key has; set it again")
    return key


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Call:
    """One request that is under way, and what may be said about it."""

    endpoint: Endpoint
    key: str
    sent: tuple[str, ...]
    left_ms: float

    def reply(self, request: Request, body: bytes, deadline: Deadline) -> Reply:
        answered = self._exchanged(body, deadline)
        if answered.status != http.client.OK:
            raise self._refused(answered)
        value = self._json(answered)
        return Reply(
            text=self._text(value, request.max_chars),
            model=one_line(self._clean(value.get("model") or ""), 200),
            sent=self.sent,
            bytes_out=len(body),
            bytes_in=len(answered.body),
        )

    def _exchanged(self, body: bytes, deadline: Deadline) -> Answered:
        with connected(self.endpoint, deadline) as sock:
            try:
                return post(sock, self.endpoint, self._headers(), body, deadline)
            except TimeoutError as error:
                raise self._failed(f"no whole answer came within {self.left_ms:.0f} ms") from error
            except TooLargeError as error:
                raise self._failed(str(error)) from error
            except http.client.RemoteDisconnected as error:
                raise self._failed("it closed the connection without an answer") from error
            except http.client.IncompleteRead as error:
                raise self._failed("its answer was cut off") from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                # Without its cause, which may quote what the server sent.
                raise self._failed(f"the connection broke ({type(error).__name__}: {error})") from None

    def _headers(self) -> dict[str, str]:
        key = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return {
            "Host": self.endpoint.place,
            "User-Agent": "nearsight",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "Connection": "close",
            **key,
        }

    def _failed(self, reason: str, *, retry_ms: float | None = None) -> RemoteError:
        shown = one_line(self._clean(reason), 200)
        return RemoteError(f"{self.endpoint.place} was asked; {shown}", sent=self.sent, retry_ms=retry_ms)

    def _clean(self, text: object) -> str:
        """Make one printable line of what a server says, without the key."""
        shown = str(text).replace(self.key, "***") if self.key else str(text)
        return "".join(mark if mark.isprintable() else " " for mark in shown)

    def _refused(self, answered: Answered) -> RemoteError:
        status = answered.status
        location = answered.headers.get("Location", "")
        if 300 <= status < 400:
            return self._failed(f"it answers {status} and sends on to {location!r}; give the right address as endpoint")
        title = http.client.responses.get(status, "")
        reason = f"it answers {status} {title}{_complaint(answered.body)}"
        busy = status == http.client.TOO_MANY_REQUESTS or status >= 500
        remedy = f"; {_REMEDIES[status]}" if status in _REMEDIES else ""
        retry_ms = _retry_ms(answered.headers.get("Retry-After")) if busy else None
        # Cleaned before it is cut: a cut through the key would leave half of it.
        return self._failed(one_line(self._clean(reason), 140) + remedy, retry_ms=retry_ms)

    def _json(self, answered: Answered) -> dict[str, Any]:
        kind = answered.headers.get_content_type()
        if "json" not in kind or answered.headers.get("Content-Encoding", "identity") != "identity":
            raise self._failed(f"it answers with {kind}, and JSON is expected; check the endpoint's path")
        try:
            value = json.loads(answered.body)
        except (ValueError, RecursionError) as error:
            raise self._failed("its answer is not JSON") from error
        if not isinstance(value, dict):
            raise self._failed(f"its answer is a JSON {type(value).__name__}, and an object is expected")
        return value

    def _text(self, value: dict[str, Any], max_chars: int) -> str:
        try:
            choice = value["choices"][0]
            text, ending = choice["message"]["content"], choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise self._failed("its answer has no choices[0].message.content") from error
        if not isinstance(text, str) or not text.strip():
            raise self._failed("its answer holds no text")
        if not isinstance(ending, (str, type(None))) or ending in _UNFINISHED:
            raise self._failed(f"its answer was not finished (finish_reason {ending!r})")
        if len(text) > max_chars:
            raise self._failed(f"its answer has {len(text)} characters, and at most {max_chars} were expected")
        if len(self.key) >= _LEAST_KEY and self.key in "".join(text.split()):
            raise self._failed("the answer repeats the key")
        if not all(mark.isprintable() or mark in "\n\r\t" for mark in text):
            raise self._failed("its answer holds characters that cannot be shown")
        return text.strip()


def _complaint(body: bytes) -> str:
    """Find what a refusal says, in the forms that servers use; empty where it says nothing."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    found = value.get("error", value.get("message")) if isinstance(value, dict) else None
    said = found.get("message") if isinstance(found, dict) else found
    return f": {said}" if isinstance(said, str) and said else ""


def _retry_ms(after: str | None) -> float:
    """Read Retry-After in seconds; its other form, a date, is taken as unsaid."""
    try:
        seconds = float(after or "")
    except ValueError:
        return RETRY_MS
    return max(seconds * 1e3, RETRY_MS) if isfinite(seconds) else RETRY_MS
