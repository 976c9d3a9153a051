"""Files that were quantized before: taken again only if nothing that matters changed and not a byte of them did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearsight_npu import memory
from nearsight_npu.quantization import artifacts
from nearsight_npu.quantization.artifacts import Artifacts, samples_hash, wish

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FACTS = {"plan": {"a": "w8"}, "warnings": ["one"]}


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    def write(content: bytes = b"a graph", name: str = "made.onnx") -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def samples(seed: int = 0, count: int = 3) -> list[dict[str, np.ndarray]]:
    numbers = np.random.default_rng(seed)
    return [{"x": numbers.standard_normal((1, 4)).astype(np.float32)} for _ in range(count)]


def test_what_was_kept_is_taken_with_its_facts(tmp_path: Path, made: Callable[..., Path]) -> None:
    kept = Artifacts(tmp_path / "cache")

    assert kept.take("key", tmp_path / "out") is None
    assert kept.keep("key", made(), FACTS) is None
    facts = kept.take("key", tmp_path / "out")

    assert facts == FACTS
    assert (tmp_path / "out").read_bytes() == b"a graph"
    assert kept.take("another key", tmp_path / "out") is None


@pytest.mark.parametrize("damage", [b"a grapH", b"a grap", b"", b"a graph and more"])
def test_a_file_that_changed_by_a_byte_is_never_taken_and_goes(
    tmp_path: Path, made: Callable[..., Path], damage: bytes
) -> None:
    kept = Artifacts(tmp_path / "cache")
    kept.keep("key", made(), FACTS)
    next((tmp_path / "cache" / "quantized").glob("*.onnx")).write_bytes(damage)

    assert kept.take("key", tmp_path / "out") is None
    assert list((tmp_path / "cache" / "quantized").iterdir()) == []


@pytest.mark.parametrize("page", ["", "{", "[]", "{}", '{"sha256": 3}', '{"sha256": "../../x", "facts": {}}', "null"])
def test_a_page_that_is_none_is_as_good_as_absent(tmp_path: Path, made: Callable[..., Path], page: str) -> None:
    kept = Artifacts(tmp_path / "cache")
    kept.keep("key", made(), FACTS)
    next((tmp_path / "cache" / "quantized").glob("*.json")).write_text(page)

    assert kept.take("key", tmp_path / "out") is None

    kept.keep("key", made(), FACTS)
    assert kept.take("key", tmp_path / "out") == FACTS


def test_the_folder_keeps_within_its_bound_and_the_least_recently_used_goes_first(
    tmp_path: Path, made: Callable[..., Path]
) -> None:
    kept = Artifacts(tmp_path / "cache", most_bytes=3000)
    folder = tmp_path / "cache" / "quantized"
    for place, name in enumerate("abc"):
        kept.keep(name, made(name.encode() * 1000), {})
        for file in folder.glob("*.onnx"):
            if file.read_bytes()[:1] == name.encode():
                os.utime(file, (place + 1, place + 1))
    assert kept.take("a", tmp_path / "out") == {}  # used: now the youngest

    kept.keep("d", made(b"d" * 1000), {})

    assert [kept.take(name, tmp_path / "out") is not None for name in "abcd"] == [True, False, True, True]
    assert sum(file.stat().st_size for file in folder.glob("*.onnx")) == 3000
    assert len(list(folder.glob("*.json"))) == 3


def test_a_file_beyond_the_bound_is_not_kept_and_drives_nothing_out(tmp_path: Path, made: Callable[..., Path]) -> None:
    kept = Artifacts(tmp_path / "cache", most_bytes=1_000_000)
    kept.keep("small", made(b"small"), {})

    said = kept.keep("large", made(b"l" * 1_500_000), {})

    assert said == "2 MB are more than the cache holds (1 MB)"
    assert kept.take("small", tmp_path / "out") == {}


def test_wishes_that_one_file_grants_are_bounded_in_number_too(
    tmp_path: Path, made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MOST_FILES", 3)
    kept = Artifacts(tmp_path / "cache")
    for number in range(5):
        kept.keep(f"key {number}", made(), FACTS)

    granted = [kept.take(f"key {number}", tmp_path / "out") is not None for number in range(5)]

    assert granted.count(True) == 3
    assert granted[-1]


def test_a_folder_that_cannot_be_written_is_said_and_not_raised(tmp_path: Path, made: Callable[..., Path]) -> None:
    (tmp_path / "cache").write_text("a file")

    said = Artifacts(tmp_path / "cache").keep("key", made(), {})

    assert said is not None
    assert "cache" in said


def test_what_a_killed_process_left_half_written_goes(tmp_path: Path, made: Callable[..., Path]) -> None:
    kept = Artifacts(tmp_path / "cache")
    left = tmp_path / "cache" / "quantized" / ".left"
    fresh = tmp_path / "cache" / "quantized" / ".fresh"
    for folder in (left, fresh):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"half")
    long_ago = time.time() - 7200
    os.utime(left, (long_ago, long_ago))

    kept.keep("key", made(), {})

    assert not left.exists()
    assert fresh.exists()


def test_many_who_keep_and_take_at_once_see_whole_files_only(
    tmp_path: Path, made: Callable[..., Path], trials: int
) -> None:
    folder = tmp_path / "cache"
    contents = {f"k{place}": bytes([65 + place]) * 20_000 for place in range(6)}
    sources = {key: made(content, key) for key, content in contents.items()}

    def work(seed: int) -> int:
        # Room for four of six: files leave while others take them.
        kept, numbers, wrong = Artifacts(folder, most_bytes=80_000), np.random.default_rng(seed), 0
        for turn in range(5):
            key = f"k{numbers.integers(6)}"
            into = tmp_path / f"out{seed}-{turn}"
            facts = kept.take(key, into)
            if facts is None:
                kept.keep(key, sources[key], {"key": key})
            else:
                wrong += into.read_bytes() != contents[key] or facts != {"key": key}
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(trials))) == 0
    kept = Artifacts(folder, most_bytes=80_000)
    kept.keep("k0", sources["k0"], {})
    assert sum(file.stat().st_size for file in (folder / "quantized").glob("*.onnx")) <= 80_000


# A value for each setting; the key must tell apart any two.
WISHES = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["static", "dynamic", "weights"]),
        "keep_float": st.lists(st.sampled_from(["a", "b", "ab"]), max_size=2),
        "bits": st.sampled_from([None, 4, 8]),
        "percentile": st.sampled_from([None, 99.9, 99.99]),
        "reduce_range": st.booleans(),
    }
)


@given(one=WISHES, other=WISHES, seeds=st.tuples(st.integers(0, 3), st.integers(0, 3)))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_two_keys_are_one_exactly_if_settings_and_samples_are(
    one: dict[str, Any], other: dict[str, Any], seeds: tuple[int, int], made: Callable[..., Path]
) -> None:
    model = made()

    keys = [wish(model, asked, samples(seed)) for asked, seed in zip((one, other), seeds, strict=True)]

    assert (keys[0] == keys[1]) is (one == other and seeds[0] == seeds[1])


def test_the_key_changes_with_the_model_the_rules_and_the_versions(
    made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {wish(made(), {}, samples()), wish(made(b"a graph!"), {}, samples())}
    monkeypatch.setattr(artifacts, "RULES", artifacts.RULES + 1)
    keys.add(wish(made(), {}, samples()))
    monkeypatch.setattr(artifacts, "_LIBRARIES", ("onnx",))
    keys.add(wish(made(), {}, samples()))

    assert len(keys) == 4
    assert all(json.loads(key)["versions"]["onnx"] for key in keys)


def test_samples_differ_in_names_types_shapes_values_order_and_number() -> None:
    base = samples()
    others = [
        base,
        base[::-1],
        base[:2],
        [*base, base[0]],
        [{"y": sample["x"]} for sample in base],
        [{"x": sample["x"].reshape(4, 1)} for sample in base],
        [{"x": sample["x"].view(np.int32)} for sample in base],
        [{"x": sample["x"] + (np.arange(4) == 3) * np.float32(1e-6)} for sample in base],
        [{"x": np.concatenate([sample["x"] for sample in base])}],
    ]

    assert len({samples_hash(entry) for entry in others}) == len(others)
    # How an array lies in memory is no difference.
    assert samples_hash([{"x": np.asfortranarray(sample["x"])} for sample in base]) == samples_hash(base)


def test_another_process_takes_what_this_one_kept(tmp_path: Path, made: Callable[..., Path]) -> None:
    key = wish(made(), {"mode": "static"}, samples())
    Artifacts(tmp_path / "cache").keep(key, made(), FACTS)
    code = f"""
import json, pathlib, sys
from nearsight_npu.quantization.artifacts import Artifacts
found = Artifacts({str(tmp_path / "cache")!r}).take({key!r}, pathlib.Path({str(tmp_path / "out")!r}))
print(json.dumps(found))
"""

    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == FACTS
