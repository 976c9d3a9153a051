"""Another machine is asked over a real connection, and answers, fails, hangs and lies."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from nearsight_npu.breaker import Breaker
from nearsight_npu.endpoint import endpoint_at
from nearsight_npu.errors import RemoteError
from nearsight_npu.loopback import RESET, FakeCloud, answer, completion
from nearsight_npu.remote import Picture, Reply, Request, ask, forget_failures
from nearsight_npu.wire import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUESTION = Request(instruction="Be brief.", text="What is this?")
JPEG = b"\xff\xd8\xff and so on"
# A call that is to last .4 s shall be over in this time on the busiest machine; what it hangs on would last longer.
SOON_S = 8.0
LONG_S = 40.0
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture(autouse=True)
def _unburdened(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start without failures and without a key."""
    monkeypatch.delenv("NEARSIGHT_API_KEY", raising=False)
    forget_failures()
    yield
    forget_failures()


def as_it_is(request: Request) -> Request:
    return request


def drawn(request: Request) -> Request:
    """Redact as the SDK does: bytes instead of sources."""
    return replace(
        request, pictures=tuple(replace(each, source=None, jpeg=JPEG, note="picture 4x3") for each in request.pictures)
    )


def asked(cloud: FakeCloud, request: Request = QUESTION, left_ms: float = 30_000, **options: Any) -> Reply:
    return ask(endpoint_at(cloud.url), request, left_ms=left_ms, **{"redact": as_it_is, **options})


def failure(cloud: FakeCloud, **options: Any) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        asked(cloud, **options)
    assert "\n" not in str(caught.value)
    return caught.value


def scripted(*parts: bytes | float | str) -> FakeCloud:
    return FakeCloud(lambda _: parts)


def test_words_go_out_and_an_answer_comes_back() -> None:
    with FakeCloud("  A red truck.\n") as cloud:
        reply = asked(cloud, model="vision-large")

    (body,), (headers,) = cloud.requests, cloud.headers
    assert reply.text == "A red truck."
    assert reply.model == "fake"
    assert reply.sent == (f"text, 22 bytes to {endpoint_at(cloud.url).place}",)
    assert body["model"] == "vision-large"
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is this?"},
    ]
    assert (body["max_tokens"], body["stream"]) == (128, False)
    assert int(headers["content-length"]) == reply.bytes_out
    assert "authorization" not in headers


def test_a_picture_goes_out_as_what_redact_made_of_it() -> None:
    with FakeCloud("A truck.") as cloud:
        reply = asked(cloud, replace(QUESTION, pictures=(Picture(source=b"the secret original"),)), redact=drawn)

    content = cloud.requests[0]["messages"][1]["content"]
    assert content[0] == {"type": "text", "text": "What is this?"}
    assert content[1]["image_url"]["url"] == "data:image/jpeg;base64,/9j/IGFuZCBzbyBvbg=="
    assert reply.sent[1] == f"picture 4x3, {len(JPEG)} bytes to {endpoint_at(cloud.url).place}"
    assert "secret" not in json.dumps(cloud.requests)


@pytest.mark.parametrize(
    ("redact", "reason"),
    [
        (None, "without a function that says what may leave"),
        (as_it_is, "a picture that may not leave"),
        (lambda request: replace(request, pictures=()), "a picture that may not leave"),
        (lambda request: replace(request, pictures=(Picture(jpeg=b"a text"),)), "a picture that may not leave"),
    ],
)
def test_a_picture_that_nobody_redacted_is_not_sent(redact: Any, reason: str) -> None:
    with FakeCloud("never") as cloud:
        error = failure(cloud, request=replace(QUESTION, pictures=(Picture(source="photo"),)), redact=redact)

    assert reason in str(error)
    assert error.sent == ()
    assert cloud.connections == 0


def test_where_redact_leaves_nothing_nobody_is_asked() -> None:
    with FakeCloud("never") as cloud:
        error = failure(cloud, redact=lambda request: replace(request, instruction="", text=""))

    assert "nothing may leave" in str(error)
    assert cloud.connections == 0


def test_the_key_is_sent_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARSIGHT_API_KEY", "sk-very-secret")
    refusal = answer(401, json.dumps({"error": {"message": "wrong key sk-very-secret"}}).encode())

    with FakeCloud("fine") as cloud:
        reply = asked(cloud)
    with scripted(refusal) as wary:
        error = failure(wary)

    assert cloud.headers[0]["authorization"] == "Bearer sk-very-secret"
    assert "sk-very" not in repr(reply)
    assert "401" in str(error)
    assert "wrong key ***" in str(error)
    assert "sk-very" not in str(error) + repr(error.__cause__) + repr(error.sent)


@pytest.mark.parametrize(
    "said",
    ["The key is sk-very-secret here.", "sk-very-secret", "sk-very-\nsecret", '[{"tool": "sk-very-secret"}]'],
)
def test_an_answer_that_repeats_the_key_is_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARSIGHT_API_KEY", "sk-very-secret")

    with FakeCloud(said) as cloud:
        error = failure(cloud)

    assert "the answer repeats the key" in str(error)
    assert error.sent
    assert error.retry_ms is None
    assert "very" not in repr(error) + repr(error.__cause__) + repr(error.sent)


def test_a_word_that_stands_for_no_key_may_be_in_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARSIGHT_API_KEY", "none")

    with FakeCloud("There is none.") as cloud:
        assert asked(cloud).text == "There is none."


@pytest.mark.parametrize("ahead", range(100, 140, 3))
def test_no_half_of_the_key_is_left_where_a_message_is_cut(ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARSIGHT_API_KEY", "QQQQ-very-QQQQ-secret-QQQQ")
    said = json.dumps({"error": {"message": "x" * ahead + "QQQQ-very-QQQQ-secret-QQQQ" + "y" * 100}}).encode()

    with scripted(answer(401, said)) as cloud:
        error = failure(cloud)

    assert "Q" not in str(error)


def test_what_broke_the_connection_does_not_show_the_key_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARSIGHT_API_KEY", "sk-very-secret")

    with scripted(b"sk-very-secret is no status line\r\n") as cloud:
        error = failure(cloud)

    assert "the connection broke" in str(error)
    assert "sk-very" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("key", ["sk-one\r\nX-Other: 1", "sk one", "schlüssel"])
def test_a_key_that_is_none_is_not_sent_nor_repeated(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARSIGHT_API_KEY", key)

    with FakeCloud("never") as cloud:
        error = failure(cloud)

    assert "NEARSIGHT_API_KEY" in str(error)
    assert key not in str(error)
    assert cloud.connections == 0


@pytest.mark.parametrize(
    ("status", "reason", "again"),
    [
        (400, "cloud_model", False),
        (401, "set the environment variable NEARSIGHT_API_KEY", False),
        (404, "name a model it has", False),
        (413, "413", False),
        (204, "204", False),
        (429, "429", True),
        (500, "500", True),
        (503, "503", True),
    ],
)
def test_a_refusal_says_what_mends_it_and_whether_to_try_again(status: int, reason: str, again: bool) -> None:
    with scripted(answer(status, b"<p>No.</p>" if status != 204 else b"", "text/html")) as cloud:
        error = failure(cloud)

    assert reason in str(error)
    assert (error.retry_ms is not None) == again
    assert error.sent == (f"text, 22 bytes to {endpoint_at(cloud.url).place}",)


@pytest.mark.parametrize(
    ("after", "wait_ms"), [("2", 2000), ("0", 200), ("-5", 200), ("nan", 200), ("Fri, 31 Dec 2027 23:59:59 GMT", 200)]
)
def test_a_busy_server_says_how_long_to_wait(after: str, wait_ms: float) -> None:
    with scripted(answer(429, b"", Retry_After=after)) as cloud:
        error = failure(cloud)

    assert error.retry_ms == wait_ms


def test_what_a_refusal_says_is_one_printable_line() -> None:
    said = json.dumps({"error": {"message": "no\nmodel \x1b[2Jcalled\x00 that " + "x" * 5000}}).encode()

    with scripted(answer(404, said)) as cloud:
        error = failure(cloud)

    assert "no model [2Jcalled that xxx" in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 300


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    with pytest.raises(RemoteError, match="cannot be reached") as caught:
        ask(endpoint_at(f"http://127.0.0.1:{port}"), QUESTION, redact=as_it_is, left_ms=30_000)

    assert caught.value.sent == ()
    assert caught.value.retry_ms is not None


def test_a_name_that_leads_nowhere() -> None:
    with pytest.raises(RemoteError, match="cannot be reached") as caught:
        ask(endpoint_at("https://nobody.invalid"), QUESTION, redact=as_it_is, left_ms=SOON_S * 1e3)

    assert caught.value.sent == ()


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((LONG_S,), id="before the headers"),
        pytest.param((b"HTTP/1.1 20", LONG_S), id="in the first line"),
        pytest.param((HEAD + b"Content-Length: 100\r\n\r\n{", LONG_S), id="in the body"),
        pytest.param((HEAD + b"Content-Length: 400\r\n\r\n", *[b" ", 0.1] * 400), id="a byte at a time"),
        pytest.param((b"HTTP/1.1 200 OK\r\nX: ", *[b"x", 0.1] * 400), id="a header at a time"),
        pytest.param((b"HTTP/1.1 100 Continue\r\n\r\n", *[b"HTTP/1.1 100 Continue\r\n\r\n", 0.1] * 400), id="wait"),
        pytest.param((HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\n \r\n", 0.1] * 400), id="in chunks"),
        pytest.param((HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", *[b"X: y\r\n", 0.1] * 400), id="after chunks"),
    ],
)
def test_a_server_that_dawdles_holds_nobody_past_the_deadline(parts: tuple[bytes | float, ...]) -> None:
    with scripted(*parts) as cloud:
        begin = time.perf_counter()
        error = failure(cloud, left_ms=400)
        took_s = time.perf_counter() - begin

    assert "no whole answer came within 400 ms" in str(error)
    assert error.retry_ms is None
    assert error.sent
    assert 0.3 < took_s < SOON_S


def test_a_server_that_never_reads_holds_nobody_past_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = endpoint_at(f"http://127.0.0.1:{server.getsockname()[1]}")
        # More than the buffers of both sides take.
        question = replace(QUESTION, text="x" * (32 << 20))
        begin = time.perf_counter()

        with pytest.raises(RemoteError, match="no whole answer"):
            ask(endpoint, question, redact=as_it_is, left_ms=1000)

        assert time.perf_counter() - begin < SOON_S


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        pytest.param((), "closed the connection without an answer", id="closes"),
        pytest.param((RESET,), "the connection broke", id="resets"),
        pytest.param((HEAD + b"Content-Length: 100\r\n\r\n{", RESET), "the connection broke", id="resets in mid-body"),
        pytest.param((HEAD + b"Content-Length: 500\r\n\r\n" + b" " * 99,), "cut off", id="less than announced"),
        pytest.param((HEAD + b"Content-Length: 9\r\n\r\n" + b'{"choices": []}',), "not JSON", id="more than announced"),
        pytest.param((HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\n{}",), "cut off", id="a chunk cut off"),
        pytest.param((HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}",), "cut off", id="no chunk"),
        pytest.param((b"SSH-2.0-OpenSSH_9.2\r\n",), "the connection broke", id="another protocol"),
        pytest.param((b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500,), "the connection broke", id="endless headers"),
        pytest.param((b"HTTP/1.1 200 OK\r\nX: " + b"y" * 90_000,), "the connection broke", id="an endless header"),
        pytest.param((answer(200, b"<html>Welcome to the Wi-Fi!</html>", "text/html"),), "text/html", id="HTML"),
        pytest.param((answer(200, b"{}", Content_Encoding="gzip"),), "JSON is expected", id="packed"),
        pytest.param((answer(200, b""),), "not JSON", id="empty"),
        pytest.param((answer(200, b'{"choices"'),), "not JSON", id="half JSON"),
        pytest.param((answer(200, b"\xff\xfe\xfd"),), "not JSON", id="no text"),
        pytest.param((answer(200, b"[" * 500_000),), "not JSON", id="JSON without end"),
        pytest.param((answer(200, b"[1]"),), "JSON list", id="a list"),
        pytest.param((answer(200, b'{"choices": []}'),), "no choices", id="no choice"),
        pytest.param((answer(200, b'{"choices": {"a": 1}}'),), "no choices", id="choices of a wrong kind"),
        pytest.param((answer(200, b'{"choices": [{"message": null}]}'),), "no choices", id="no message"),
        pytest.param((answer(200, b'{"choices": [{"message": {"content": 7}}]}'),), "no text", id="a number"),
        pytest.param((answer(200, b'{"choices": [{"message": {"content": null}}]}'),), "no text", id="null"),
        pytest.param((completion("  \n"),), "no text", id="blanks"),
        pytest.param((completion("a" * 2001),), "2001 characters, and at most 2000", id="too long"),
        pytest.param((completion("A red tr", finish_reason="length"),), "not finished", id="not finished"),
        pytest.param((completion("A", finish_reason=["x"]),), "not finished", id="an ending of a wrong kind"),
        pytest.param((completion("\x1b[2J"),), "cannot be shown", id="a terminal's command"),
        pytest.param((completion("\ud800"),), "cannot be shown", id="half a letter"),
    ],
)
def test_an_answer_that_is_none_is_refused_with_the_reason(parts: tuple[bytes | str, ...], reason: str) -> None:
    with scripted(*parts) as cloud:
        error = failure(cloud)

    assert reason in str(error)
    assert error.sent
    assert error.retry_ms is None
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"Content-Length: 1000000000\r\n\r\n",
        HEAD + b"\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3b9aca00\r\n",
    ],
    ids=["announced", "unannounced", "in one chunk"],
)
def test_a_gigabyte_is_not_read(head: bytes) -> None:
    taken = 0

    def flood() -> Iterator[bytes]:
        nonlocal taken
        yield head
        for _ in range(1000):
            taken += 1_000_000
            yield b" " * 1_000_000

    with FakeCloud(lambda _: flood()) as cloud:
        error = failure(cloud)

    assert f"the limit is {MOST_BYTES}" in str(error) or f"more than {MOST_BYTES} bytes" in str(error)
    # What the buffers of both sides took, and no more.
    assert taken < 100_000_000


def test_a_redirect_is_not_followed() -> None:
    with FakeCloud("never") as other:
        where = other.url.replace("http://", "http://user@") + "/chat/completions"
        with scripted(answer(307, b"", Location=where)) as cloud:
            error = failure(cloud)

    assert "sends on to" in str(error)
    assert other.connections == 0


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeCloud("never") as proxy, FakeCloud("direct") as cloud:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)

        assert asked(cloud).text == "direct"
        assert proxy.connections == 0


def test_a_refusal_that_comes_before_everything_is_read_is_understood() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = endpoint_at(f"http://127.0.0.1:{server.getsockname()[1]}")

        def refuse() -> None:
            sock, _ = server.accept()
            with sock:
                sock.recv(1000)
                sock.sendall(answer(413, b""))
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(1 << 20):
                    pass

        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(RemoteError, match="413"):
            ask(endpoint, replace(QUESTION, text="x" * (4 << 20)), redact=as_it_is, left_ms=30_000)
        thread.join()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for 127.0.0.1 that nobody vouches for."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl program to make a certificate")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run(
        ["openssl", "req", "-x509", *curve, "-nodes", "-days", "2", *subject, "-keyout", path, "-out", f"{path}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + path.with_name("both.pem.crt").read_bytes())
    return path


def secure(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_https_is_spoken_with_a_machine_that_can_prove_who_it_is(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    with FakeCloud("in confidence", tls=secure(certificate)) as cloud:
        assert asked(cloud).text == "in confidence"
        assert cloud.url.startswith("https://")


def test_a_dawdler_over_https_holds_nobody_either(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    with FakeCloud(lambda _: [HEAD, *[b"X", 0.1] * 400], tls=secure(certificate)) as cloud:
        begin = time.perf_counter()
        error = failure(cloud, left_ms=800)
        took_s = time.perf_counter() - begin

    assert "no whole answer" in str(error)
    assert took_s < SOON_S


def test_a_machine_that_cannot_prove_who_it_is_gets_nothing(certificate: Path) -> None:
    with FakeCloud("never", tls=secure(certificate)) as cloud:
        error = failure(cloud)

    assert "TLS fails" in str(error)
    assert error.sent == ()
    assert error.retry_ms is None
    assert cloud.requests == []


def test_plain_http_where_https_was_asked_for_gets_nothing() -> None:
    with FakeCloud("never") as cloud, pytest.raises(RemoteError, match="TLS fails") as caught:
        ask(
            endpoint_at(cloud.url.replace("http:", "https:")), QUESTION, redact=as_it_is, left_ms=30_000,
        )  # fmt: skip

    assert caught.value.sent == ()
    assert cloud.requests == []


def test_a_name_whose_address_is_far_away_is_not_asked_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    # An address of the open network; the resolver is the one thing that cannot be real here.
    far = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: far)

    with pytest.raises(RemoteError, match=r"leads to 8\.8\.8\.8, outside the local network; use https"):
        ask(endpoint_at("http://gate.lan"), QUESTION, redact=as_it_is, left_ms=1000)


def test_what_takes_long_to_be_redacted_holds_nobody_past_the_deadline_and_does_not_leave() -> None:
    over = threading.Event()

    def slow(request: Request) -> Request:
        over.wait(LONG_S)
        return request

    with FakeCloud("never") as cloud:
        begin = time.perf_counter()
        errors = [failure(cloud, redact=slow, left_ms=300) for _ in range(4)]
        took_s = time.perf_counter() - begin
        over.set()

        # Nor is it held against the server.
        assert {str(error) for error in errors} == {
            f"{endpoint_at(cloud.url).place} was to be asked; what may leave was not ready in time; nothing was sent"
        }
        assert all(error.sent == () and error.retry_ms is None for error in errors)
        assert cloud.connections == 0
        assert took_s < SOON_S


def test_the_time_of_redacting_is_taken_from_what_the_server_gets() -> None:
    def slow(request: Request) -> Request:
        time.sleep(1.5)
        return request

    with scripted(LONG_S) as cloud:
        begin = time.perf_counter()
        error = failure(cloud, redact=slow, left_ms=2000)
        took_s = time.perf_counter() - begin

    assert "no whole answer came within 2000 ms" in str(error)
    assert 1.9 < took_s < 3.4


def test_what_redact_raises_is_passed_on() -> None:
    def broken(request: Request) -> Request:
        raise ZeroDivisionError(request.text)

    with FakeCloud("never") as cloud, pytest.raises(ZeroDivisionError, match="What is this"):
        asked(cloud, redact=broken)

    assert cloud.connections == 0


def test_a_resolver_that_hangs_holds_nobody_past_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hang(*_: Any, **__: Any) -> list[Any]:
        over.wait(LONG_S)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    begin = time.perf_counter()

    with pytest.raises(RemoteError, match="no connection in time"):
        ask(endpoint_at("http://gate.lan"), QUESTION, redact=as_it_is, left_ms=300)

    took_s = time.perf_counter() - begin
    over.set()
    assert took_s < SOON_S


def test_after_three_failures_in_a_row_it_is_left_alone() -> None:
    with scripted(answer(500, b"")) as cloud:
        for _ in range(3):
            failure(cloud)
        error = failure(cloud)

        assert "left alone for" in str(error)
        assert error.sent == ()
        assert cloud.connections == 3
        forget_failures()
        assert "500" in str(failure(cloud))


def test_an_answer_between_failures_keeps_it_in_use() -> None:
    answers = [answer(500, b""), answer(500, b""), completion("fine"), answer(500, b""), answer(500, b""), b""]

    with FakeCloud(lambda _: [answers[len(cloud.requests) - 1]]) as cloud:
        for number in range(6):
            if number == 2:
                asked(cloud)
            else:
                failure(cloud)

        assert cloud.connections == 6


def test_a_breaker_lets_one_through_after_its_rest() -> None:
    now = 0.0
    breaker = Breaker(failures=2, rest_s=10, clock=lambda: now)

    assert breaker.blocked_s() == 0
    for _ in range(2):
        breaker.note(succeeded=False)
    now = 4.0
    assert breaker.blocked_s() == 6
    now = 10.0
    assert (breaker.blocked_s(), breaker.blocked_s()) == (0, 10)
    breaker.note(succeeded=False)
    now = 19.0
    assert breaker.blocked_s() == 1
    now = 20.0
    assert breaker.blocked_s() == 0
    breaker.note(succeeded=True)
    assert (breaker.blocked_s(), breaker.blocked_s()) == (0, 0)
