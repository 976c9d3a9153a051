"""Policies: what this version follows, that nothing else is accepted in silence, and which addresses may be asked."""

from __future__ import annotations

import traceback
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from nearsight_npu import Decision, Policy, Rejected, Rung
from nearsight_npu.endpoint import endpoint_at
from nearsight_npu.errors import PolicyError


def test_a_policy_allows_falling_back_unless_it_is_strict() -> None:
    assert not Policy().strict
    assert Policy(strict=True).strict


def test_a_policy_has_the_promised_fields_and_stays_as_it_is() -> None:
    names = [field.name for field in fields(Policy)]

    assert names == [
        "threshold",
        "risk",
        "budget_ms",
        "max_memory_mb",
        "budget_money",
        "cloud",
        "endpoint",
        "privacy",
        "strict",
        "cloud_model",
    ]
    with pytest.raises(FrozenInstanceError):
        Policy().strict = True  # type: ignore[misc]


@pytest.mark.parametrize(
    "values",
    [{"risk": 0.1}, {"budget_money": 0}, {"privacy": "embedding"}, {"privacy": "crop"}],
)
def test_what_is_not_built_yet_is_refused_and_not_ignored(values: dict[str, Any]) -> None:
    (name,) = values

    with pytest.raises(PolicyError, match=f"Policy\\({name}=.*not built yet.*leave {name} out") as error:
        Policy(**values)

    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        {"threshold": -0.1},
        {"threshold": 1.1},
        {"threshold": float("nan")},
        {"threshold": "half"},
        {"threshold": True},
        {"max_memory_mb": 0},
        {"max_memory_mb": -1},
        {"max_memory_mb": float("inf")},
        {"max_memory_mb": "all"},
        {"max_memory_mb": True},
        {"budget_ms": 0},
        {"budget_ms": -5},
        {"budget_ms": float("inf")},
        {"budget_ms": "20"},
        {"cloud": "yes"},
        {"cloud": 1},
        {"privacy": "some"},
        {"privacy": None},
        {"strict": "yes"},
        {"cloud_model": ""},
        {"cloud_model": 7},
    ],
)
def test_a_value_that_cannot_be_followed_is_refused_with_what_it_may_be(values: dict[str, Any]) -> None:
    (name,) = values

    with pytest.raises(PolicyError, match=f"Policy\\({name}=.*it is .*; give that"):
        Policy(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"threshold": 0},
        {"threshold": 1.0},
        {"budget_ms": 0.5},
        {"endpoint": "https://host.example/v1"},
        {"cloud": True, "endpoint": "http://127.0.0.1:8000"},
        *[{"privacy": name} for name in ("nothing", "text", "blur", "whole")],
    ],
)
def test_what_is_built_is_accepted(values: dict[str, Any]) -> None:
    policy = Policy(**values)

    assert {name: getattr(policy, name) for name in values} == values


def test_nothing_may_leave_unless_it_is_said() -> None:
    assert not Policy().cloud
    assert not Policy(threshold=0.5, endpoint="https://host.example/v1").cloud


def test_the_cloud_needs_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEARSIGHT_ENDPOINT", raising=False)

    with pytest.raises(PolicyError, match=r"without an address.*set NEARSIGHT_ENDPOINT"):
        Policy(cloud=True)


def test_the_address_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARSIGHT_ENDPOINT", "https://host.example/v1")

    assert Policy(cloud=True).endpoint == "https://host.example/v1"
    assert Policy(cloud=True, endpoint="https://other.example").endpoint == "https://other.example"
    assert Policy().endpoint is None
    monkeypatch.setenv("NEARSIGHT_ENDPOINT", "host.example")
    with pytest.raises(PolicyError, match="http or https URL"):
        Policy(cloud=True)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host.example",
        "ftp://host.example",
        "file:///etc/passwd",
        "https://",
        "https://:8000",
        "https://host.example:0",
        "https://host.example:99999",
        "https://host.example:port",
        "https://[::1",
        "https://host.example/a path",
        "https://host.example/\r\nX: y",
        "https://хост.example",
        7,
        b"https://host.example",
    ],
)
def test_an_address_that_is_none_is_refused(url: Any) -> None:
    with pytest.raises(PolicyError, match="give one like https://host:8000/v1") as error:
        Policy(endpoint=url)

    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hunter2@host.example/v1",
        "https://hunter2@host.example/v1",
        "https://host.example/v1?key=hunter2",
        "https://host.example/v1#hunter2",
    ],
)
def test_an_address_that_holds_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(PolicyError, match="they hold no secrets") as error:
        Policy(endpoint=url)

    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "user:hunter2@host/v1",
        "https://user:hunter2",
        "https://user:hunter2/v1",
        "https://user:hunt/hunter2@host/v1",
        "https://user:123/hunter2@host/v1",
        "https:user:hunter2@host",
        "https://[hunter2",
        "ftp://user:hunter2@host",
        "hunter2",
        "sk-live-hunter2",
        "Bearer hunter2",
        "hunter2\n",
    ],
)
def test_what_is_no_address_is_not_repeated(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PolicyError) as error:
        Policy(cloud=True, endpoint=url)
    monkeypatch.setenv("NEARSIGHT_ENDPOINT", url)
    with pytest.raises(PolicyError) as again:
        Policy(cloud=True)

    for told in (error, again):
        assert "hunt" not in "".join(traceback.format_exception_only(told.value)) + repr(told.value)
        # What a traceback would show above it.
        assert told.value.__cause__ is None
        assert told.value.__context__ is None


@pytest.mark.parametrize("name", ["cloud", "strict", "privacy", "threshold", "budget_ms", "risk"])
def test_a_key_in_the_wrong_place_is_not_repeated_either(name: str) -> None:
    with pytest.raises(PolicyError, match=f"Policy\\({name}=<str>\\)") as error:
        Policy(**{name: "sk-live-hunter2"})  # type: ignore[arg-type]

    assert "hunter2" not in str(error.value)


def test_a_slip_in_a_word_is_shown() -> None:
    with pytest.raises(PolicyError, match=r"Policy\(privacy='blurr'\).*\"blur\""):
        Policy(privacy="blurr")


@pytest.mark.parametrize(
    "host", ["100.64.0.1", "100.127.255.254", "198.18.0.1", "192.0.2.1", "[2002:808:808::1]", "[64:ff9b:1::808:808]"]
)
def test_addresses_that_a_provider_shares_or_that_are_translated_are_not_the_local_network(host: str) -> None:
    with pytest.raises(PolicyError, match=r"in clear.*use https"):
        Policy(endpoint=f"http://{host}/v1")


@pytest.mark.parametrize(
    "host", ["host.example", "8.8.8.8", "[2001:4860:4860::8888]", "[::ffff:8.8.8.8]", "local.example", "mylocal.com"]
)
def test_pictures_do_not_cross_the_open_network_in_clear(host: str) -> None:
    with pytest.raises(PolicyError, match=r"in clear.*use https"):
        Policy(endpoint=f"http://{host}/v1")

    assert Policy(endpoint=f"https://{host}/v1")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8000",
        "localhost",
        "[::1]:8000",
        "192.168.1.20",
        "10.0.0.1",
        "172.16.0.1",
        "169.254.1.1",
        "0.0.0.0:8080",
        "[::ffff:192.168.1.20]",
        "[fd00::1]",
        "[fe80::1]",
        "gpu-box",
        "gpu-box.local",
        "gpu.lan",
        "GPU.home.arpa",
    ],
)
def test_the_local_network_may_be_asked_in_clear(host: str) -> None:
    assert Policy(cloud=True, endpoint=f"http://{host}/v1").cloud


@pytest.mark.parametrize(
    ("url", "place", "path"),
    [
        ("https://host.example", "host.example:443", "/v1/chat/completions"),
        ("https://host.example/", "host.example:443", "/v1/chat/completions"),
        ("https://host.example/v1/", "host.example:443", "/v1/chat/completions"),
        ("https://host.example:8443/api/v3", "host.example:8443", "/api/v3/chat/completions"),
        ("https://host.example/v1/chat/completions", "host.example:443", "/v1/chat/completions"),
        ("http://[::1]", "[::1]:80", "/v1/chat/completions"),
    ],
)
def test_an_address_is_read_as_people_write_it(url: str, place: str, path: str) -> None:
    endpoint = endpoint_at(url)

    assert (endpoint.place, endpoint.path) == (place, path)


def test_defaults_that_are_written_out_are_accepted() -> None:
    assert Policy(threshold=None, cloud=False, privacy="blur") == Policy()


def test_a_decision_turns_into_plain_dictionaries() -> None:
    decision = Decision(
        requested="auto",
        target="cpu",
        precision="int8",
        model_hash="ab",
        rungs=(Rung(target="cpu", precision="int8", confidence=None, reason="the first choice"),),
        rejected=(Rejected(target="qnn", precision="", reason="not here"),),
    )

    assert decision.to_dict() == {
        "requested": "auto",
        "target": "cpu",
        "precision": "int8",
        "model_hash": "ab",
        "rungs": [
            {
                "target": "cpu",
                "precision": "int8",
                "confidence": None,
                "reason": "the first choice",
                "latency_ms": None,
                "failed": False,
            }
        ],
        "predicted": None,
        "measured": None,
        "rejected": [{"target": "qnn", "precision": "", "reason": "not here", "latency_ms": None}],
        "sent": [],
        "placement": "",
    }
