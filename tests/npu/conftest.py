"""What the delegate's tests share: how many trials to run, where to count them, and a cache folder of their own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nearsight_npu import Delegate, Golden

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# What several files share stands beside them (toys.py); tests are imported by path, so their folder has to be named.
sys.path.insert(0, str(Path(__file__).parent))

FULL = 200


@pytest.fixture(scope="session")
def trials() -> int:
    """Give the number of seeds a trial runs over: 200 where NEARSIGHT_TRIALS=full, else the first tenth."""
    return FULL if os.environ.get("NEARSIGHT_TRIALS") == "full" else FULL // 10


@pytest.fixture(scope="session")
def soak() -> Callable[[str, dict[str, object]], None]:
    """Write a trial's counts as JSON into the folder that NEARSIGHT_SOAK_JSON names, if it names one."""

    def write(name: str, counts: dict[str, object]) -> None:
        folder = os.environ.get("NEARSIGHT_SOAK_JSON")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            text = json.dumps(counts, indent=2, sort_keys=True) + "\n"
            (Path(folder) / f"npu_{name}.json").write_text(text, encoding="utf-8")

    return write


@pytest.fixture
def delegate(tmp_path: Path) -> Callable[..., Delegate]:
    """Make delegates that remember under the test's own folder."""

    def make(target: Any = "cpu", **options: Any) -> Delegate:
        return Delegate(target, **{"cache_dir": tmp_path / "cache", **options})

    return make


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Write an ONNX file from nodes, ports given as (name, numpy type, shape), and weights by name."""

    def write(
        nodes: Sequence[onnx.NodeProto],
        inputs: Sequence[tuple[str, str, Sequence[int | str]]],
        outputs: Sequence[tuple[str, str, Sequence[int | str]]],
        weights: dict[str, np.ndarray | onnx.TensorProto],
        name: str = "model.onnx",
    ) -> Path:
        def ports(entries: Sequence[tuple[str, str, Sequence[int | str]]]) -> list[onnx.ValueInfoProto]:
            kinds = [helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for _, kind, _ in entries]
            return [
                helper.make_tensor_value_info(port, kind, shape)
                for (port, _, shape), kind in zip(entries, kinds, strict=True)
            ]

        tensors = [
            array if isinstance(array, TensorProto) else numpy_helper.from_array(np.asarray(array), key)
            for key, array in weights.items()
        ]
        graph = helper.make_graph(list(nodes), "graph", ports(inputs), ports(outputs), tensors)
        sets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=sets)
        model.ir_version = 10
        path = tmp_path / name
        onnx.save(model, path)
        return path

    return write


@pytest.fixture
def layered(saved: Callable[..., Path]) -> Path:
    """Two products, named "first" and "second"."""
    numbers = np.random.default_rng(1)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="first"),
        helper.make_node("Tanh", ["a"], ["b"], name="bend"),
        helper.make_node("MatMul", ["b", "w2"], ["y"], name="second"),
    ]
    weights = {
        "w1": (numbers.standard_normal((64, 96)) / 8).astype(np.float32),
        "w2": (numbers.standard_normal((96, 32)) / 8).astype(np.float32),
    }
    return saved(nodes, [("x", "float32", ("n", 64))], [("y", "float32", ("n", 32))], weights)


@pytest.fixture
def linear(saved: Callable[..., Path]) -> Callable[..., Path]:
    """Write the toy model, or one of other weights, last changed long ago."""
    from toys import WEIGHTS

    def write(name: str = "linear.onnx", weights: np.ndarray = WEIGHTS, batch: int | str = "n") -> Path:
        path = saved(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            [("x", "float32", [batch, 6])],
            [("y", "float32", [batch, 4])],
            {"w": weights},
            name,
        )
        os.utime(path, (1_000_000, 1_000_000))
        return path

    return write


@pytest.fixture
def golden() -> Golden:
    """Give what the toy model answers to five inputs."""
    from toys import WEIGHTS

    x = np.random.default_rng(2).standard_normal((5, 6)).astype(np.float32)
    return Golden(inputs={"x": x}, outputs={"y": x @ WEIGHTS}, rank="y")
