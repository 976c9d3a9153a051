"""Golden sets: what they hold, how they are written, and that contradictions are named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsight_npu import Floor, Golden
from nearsight_npu.errors import UnreadableGoldenError
from nearsight_npu.golden import DEFAULT_FLOORS

if TYPE_CHECKING:
    from pathlib import Path

PIXELS = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
VECTORS = np.array([[1, 0], [0, 1]], np.float32)


def whole(**changes: Any) -> Golden:
    parts: dict[str, Any] = {
        "inputs": {"pixels": PIXELS},
        "outputs": {"embedding": VECTORS},
        "rank": "embedding",
        "other": np.ones((3, 2), np.float32),
        "floors": {"int8": Floor(cosine=0.97, centred=0.9, order=0.8)},
        "latency_ms": {"int8": 6.5},
    }
    return Golden(**{**parts, **changes})


def test_a_set_that_was_saved_is_the_same_when_loaded(tmp_path: Path) -> None:
    golden = whole()
    golden.save(tmp_path / "a.npz")

    again = Golden.load(tmp_path / "a.npz")

    np.testing.assert_array_equal(again.inputs["pixels"], PIXELS)
    np.testing.assert_array_equal(again.outputs["embedding"], VECTORS)
    assert again.other is not None
    assert (again.rank, again.floors, again.latency_ms) == (golden.rank, golden.floors, golden.latency_ms)
    assert again.digest() == golden.digest()
    assert len(again) == 2


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    whole().save(tmp_path / "a.npz")
    whole().save(tmp_path / "b.npz")

    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_any_numpy_reader_finds_the_documented_entries(tmp_path: Path) -> None:
    whole().save(tmp_path / "a.npz")

    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert sorted(archive.files) == ["in/pixels", "meta", "other", "out/embedding"]
        assert '"format": "nearsight-golden-1"' in str(archive["meta"])


def test_every_part_counts_for_the_digest() -> None:
    variants = [
        whole(),
        whole(inputs={"pixels": PIXELS + 1}),
        whole(inputs={"picture": PIXELS}),
        whole(outputs={"embedding": VECTORS * 2}),
        whole(rank=None, other=None),
        whole(other=None),
        whole(floors={}),
        whole(latency_ms={}),
    ]

    assert len({golden.digest() for golden in variants}) == len(variants)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inputs": {}}, "needs inputs and outputs"),
        ({"outputs": {}, "rank": None, "other": None}, "needs inputs and outputs"),
        ({"inputs": {"pixels": PIXELS[:1]}}, "same number of samples"),
        ({"inputs": {"pixels": PIXELS[:1]}, "outputs": {"embedding": VECTORS[:1]}}, "at least 2"),
        ({"inputs": {"pixels": np.float32(1)}}, "same number of samples"),
        ({"outputs": {"embedding": VECTORS * np.nan}}, "finite"),
        ({"outputs": {"embedding": np.array(["a", "b"])}}, "finite"),
        ({"rank": "other"}, "ranks 'other'"),
        ({"other": np.ones((3, 7), np.float32)}, r"partners \(3, 7\)"),
        ({"rank": None}, "no output to rank"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UnreadableGoldenError, match=said) as error:
        whole(**changes)

    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [0, -1, 1.5, float("nan"), True, "0.9"])
def test_a_floor_lies_above_zero_and_not_above_one(value: Any) -> None:
    with pytest.raises(UnreadableGoldenError, match="floor of centred"):
        Floor(cosine=0.9, centred=value, order=0.9)


def test_a_precision_nobody_described_has_to_be_as_good_as_fp32() -> None:
    golden = whole()

    assert golden.floor("int8").order == 0.8
    assert golden.floor("fp16") == DEFAULT_FLOORS["fp16"]
    assert golden.floor("unstated") == DEFAULT_FLOORS["fp32"]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"\x93NUMPY", b"{}"])
def test_a_file_that_is_no_archive_is_refused_in_one_line(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(damage)

    with pytest.raises(UnreadableGoldenError, match=r"a\.npz was to be loaded") as error:
        Golden.load(tmp_path / "a.npz")

    assert "\n" not in str(error.value)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_damaged_archive_is_refused_or_gives_the_same_set(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("golden") / "a.npz"
    whole().save(path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)

    try:
        digest = Golden.load(path).digest()
    except UnreadableGoldenError:
        return

    assert digest == whole().digest()  # the damage lay in something that is not read, such as a time


@pytest.mark.parametrize(
    "meta", ["", "{}", '{"format": "other"}', '{"format": "nearsight-golden-1", "floors": {"int8": {"cosine": 2}}}']
)
def test_a_description_that_is_not_ours_is_refused(meta: str, tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"in/pixels": PIXELS, "out/embedding": VECTORS, "meta": np.array(meta)}
    np.savez(tmp_path / "a.npz", **arrays)

    with pytest.raises(UnreadableGoldenError, match="cannot be read as one"):
        Golden.load(tmp_path / "a.npz")
