"""Steps through decoder graphs as hub exports cut them: with an encoder's keys and values, merged, or apart from them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import nearsight as ns
from nearsight.families.steps import Steps
from nearsight_npu import Delegate

onnx = pytest.importorskip("onnx", reason="its graphs are written with onnx, which is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

WIDE = 3


class Graph:
    """One graph behind the two methods of an engine that steps need."""

    def __init__(self, path: Path) -> None:
        self._session = Delegate().load(path)
        self.manifest = SimpleNamespace(name="tiny")
        self.asked: list[dict[str, Any]] = []

    def session(self, _: str) -> Any:
        return self._session

    def run(self, _: str, arrays: dict[str, Any], outputs: tuple[str, ...]) -> Any:
        self.asked.append({name: array.shape for name, array in arrays.items()})
        return self._session.run(arrays, outputs)


def port(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def cache(prefix: str, length: str) -> list[Any]:
    return [port(f"{prefix}.{part}", "b", 1, length, WIDE) for part in ("key", "value")]


def constant(name: str, *numbers: int) -> Any:
    return numpy_helper.from_array(np.array(numbers, np.int64), name)


def saved(graph: Any, path: Path) -> Path:
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def merged(tmp_path: Path) -> Graph:
    return merged_graph(tmp_path, "e")


def merged_graph(tmp_path: Path, encoder_length: str) -> Graph:
    """As optimum merges decoders: the first step makes the encoder's keys and values, later ones give empty ones."""
    node, kinds = helper.make_node, ("key", "value")
    made = helper.make_graph(
        [node("Unsqueeze", ["encoder_hidden_states", "one"], [f"made_{kind}"]) for kind in kinds],
        "first",
        [],
        [port(f"made_{kind}", "b", 1, "s", WIDE) for kind in kinds],
    )
    empty = helper.make_graph(
        [
            node("Slice", [f"past_key_values.0.encoder.{kind}", "zero", "zero", "two"], [f"none_{kind}"])
            for kind in kinds
        ],
        "later",
        [],
        [port(f"none_{kind}", "b", 1, "s", WIDE) for kind in kinds],
    )
    nodes = [
        node("Squeeze", ["use_cache_branch"], ["later"]),
        node("If", ["later"], [f"present.0.encoder.{kind}" for kind in kinds], then_branch=empty, else_branch=made),
        node("Concat", ["past_key_values.0.encoder.value", "present.0.encoder.value"], ["read"], axis=2),
        node("Unsqueeze", ["inputs_embeds", "one"], ["new"]),
        *(
            node("Concat", [f"past_key_values.0.decoder.{kind}", "new"], [f"present.0.decoder.{kind}"], axis=2)
            for kind in kinds
        ),
        node("Concat", ["read", "present.0.decoder.value"], ["all"], axis=2),
        node("ReduceSum", ["all", "two"], ["logits"], keepdims=0),
        node("Identity", ["encoder_attention_mask"], ["mask"]),
    ]
    graph = helper.make_graph(
        nodes,
        "merged",
        [
            port("encoder_attention_mask", "b", "s", kind=TensorProto.INT64),
            port("encoder_hidden_states", "b", "s", WIDE),
            port("inputs_embeds", "b", "t", WIDE),
            *cache("past_key_values.0.decoder", "p"),
            *cache("past_key_values.0.encoder", encoder_length),
            port("use_cache_branch", 1, kind=TensorProto.BOOL),
        ],
        [
            port("logits", "b", 1, WIDE),
            *cache("present.0.decoder", "q"),
            *cache("present.0.encoder", "r"),
            port("mask", "b", "s", kind=TensorProto.INT64),
        ],
        [constant("zero", 0), constant("one", 1), constant("two", 2)],
    )
    return Graph(saved(graph, tmp_path / "merged.onnx"))


@pytest.fixture
def plain(tmp_path: Path) -> Graph:
    """Without an encoder: each step adds what it is given to what was given before."""
    nodes = [
        helper.make_node("Unsqueeze", ["inputs_embeds", "one"], ["new"]),
        *(
            helper.make_node("Concat", [f"past_key_values.0.{kind}", "new"], [f"present.0.{kind}"], axis=2)
            for kind in ("key", "value")
        ),
        helper.make_node("ReduceSum", ["present.0.value", "two"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["position_ids"], ["places"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["places"], ["last"], axes=[1], keepdims=1),
        helper.make_node("Unsqueeze", ["last", "one"], ["row"]),
        helper.make_node("Add", ["sum", "row"], ["logits"]),
        helper.make_node("Identity", ["attention_mask"], ["mask"]),
        helper.make_node("Identity", ["num_logits_to_keep"], ["kept"]),
    ]
    graph = helper.make_graph(
        nodes,
        "plain",
        [
            port("inputs_embeds", "b", "t", WIDE),
            port("attention_mask", "b", "q", kind=TensorProto.INT64),
            port("position_ids", "b", "t", kind=TensorProto.INT64),
            port("num_logits_to_keep", kind=TensorProto.INT64),
            *cache("past_key_values.0", "p"),
        ],
        [
            port("logits", "b", 1, WIDE),
            *cache("present.0", "q"),
            port("mask", "b", "q", kind=TensorProto.INT64),
            port("kept", kind=TensorProto.INT64),
        ],
        [constant("one", 1), constant("two", 2)],
    )
    return Graph(saved(graph, tmp_path / "plain.onnx"))


def rows(*which: int) -> np.ndarray:
    return np.array(which, np.intp)


def embeds(*values: tuple[float, ...]) -> dict[str, np.ndarray]:
    """One new token for each answer, or with more numbers several: each the same in all places of its vector."""
    return {"inputs_embeds": np.array([[[value] * WIDE for value in row] for row in values], np.float32)}


def test_a_step_goes_on_from_the_row_it_is_told_to(plain):
    steps = Steps(plain, "decoder", [])

    first = steps(embeds((1, 2)), rows(0))
    second = steps(embeds((10,), (20,)), rows(0, 0))
    third = steps(embeds((100,), (200,)), rows(1, 1))

    # What was added up, and the place of the latest token.
    assert first[:, 0].tolist() == [3 + 1]
    assert second[:, 0].tolist() == [13 + 2, 23 + 2]
    assert third[:, 0].tolist() == [123 + 3, 223 + 3]


def test_every_step_is_given_what_the_graph_takes_and_told_to_the_delegate(plain):
    runs: list[Any] = []
    steps = Steps(plain, "decoder", runs)

    steps(embeds((1, 2)), rows(0))
    steps(embeds((10,)), rows(0))

    assert [one["attention_mask"] for one in plain.asked] == [(1, 2), (1, 3)]
    assert [one["past_key_values.0.key"] for one in plain.asked] == [(1, 1, 0, WIDE), (1, 1, 2, WIDE)]
    assert len(runs) == 2


def test_the_encoders_keys_of_the_first_step_are_kept_and_stand_for_every_answer(merged):
    read = np.full((1, 4, WIDE), 1000, np.float32)
    given = {"encoder_hidden_states": read, "encoder_attention_mask": np.ones((1, 4), np.int64)}
    steps = Steps(merged, "decoder", [], given=given)

    first = steps(embeds((1,)), rows(0))
    second = steps(embeds((10,), (20,)), rows(0, 0))
    third = steps(embeds((100,), (200,), (300,)), rows(1, 0, 1))

    assert first[:, 0].tolist() == [4001]
    assert second[:, 0].tolist() == [4011, 4021]
    assert third[:, 0].tolist() == [4121, 4211, 4321]
    assert [one["past_key_values.0.encoder.key"][2] for one in merged.asked] == [0, 4, 4]


def test_a_merged_graph_that_wants_them_as_long_as_the_encoder_gets_them_so(tmp_path):
    graph = merged_graph(tmp_path, "s")
    given = {"encoder_hidden_states": np.ones((1, 4, WIDE)), "encoder_attention_mask": np.ones((1, 4), np.int64)}

    first = Steps(graph, "decoder", [], given=given)(embeds((1,)), rows(0))

    assert first[:, 0].tolist() == [5]
    assert graph.asked[0]["past_key_values.0.encoder.key"] == (1, 1, 4, WIDE)


def test_keys_that_another_graph_made_are_there_from_the_first_step(merged):
    kept = {f"present.0.encoder.{kind}": np.full((1, 1, 2, WIDE), 500, np.float32) for kind in ("key", "value")}
    nothing = {"encoder_hidden_states": np.zeros((1, 0, WIDE)), "encoder_attention_mask": np.zeros((1, 0))}
    steps = Steps(merged, "decoder", [], given=nothing, kept=kept)

    assert steps(embeds((1,)), rows(0))[:, 0].tolist() == [1001]


def test_a_graph_that_takes_something_unknown_is_refused_with_its_name(merged):
    with pytest.raises(ns.ModelError, match=r"takes encoder_attention_mask int64 .*does not know"):
        Steps(merged, "decoder", [])(embeds((1,)), rows(0))


def test_a_graph_without_logits_is_no_decoder(tmp_path):
    graph = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "other", [port("a", "n")], [port("b", "n")])

    with pytest.raises(ns.ModelError, match="gives b and no logits"):
        Steps(Graph(saved(graph, tmp_path / "other.onnx")), "decoder", [])
