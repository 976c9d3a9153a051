"""Sabotaged graphs are refused every time, honest ones never: the proof's own trial, over many random networks."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from nearsight_npu import Delegate, Golden, Policy, prove
from nearsight_npu.errors import ProofFailedError, UnreadableGraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIDE, WIDTH, SAMPLES = 32, 48, 8
MEAN, DEVIATION = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)  # what ImageNet networks are usually trained with


@dataclass(frozen=True)
class Layer:
    """One convolution: 1 x 1 or 3 x 3, per channel or across channels, clipped at 6 or linear."""

    name: str
    fed: int
    made: int
    size: int = 3
    stride: int = 1
    alone: bool = False
    clipped: bool = True


# A small network of the usual kind: a stem, separable convolutions, two inverted residuals, a head.
LAYERS = (
    Layer("stem", 3, 16, stride=2),
    Layer("spread", 16, 16, alone=True),
    Layer("mix", 16, 24, size=1, clipped=False),
    Layer("a.widen", 24, 72, size=1),
    Layer("a.spread", 72, 72, alone=True),
    Layer("a.narrow", 72, 24, size=1, clipped=False),
    Layer("b.widen", 24, 72, size=1),
    Layer("b.spread", 72, 72, alone=True),
    Layer("b.narrow", 72, 24, size=1, clipped=False),
    Layer("head", 24, 96, size=1),
)


@dataclass(frozen=True)
class Network:
    """Weights, and what a saboteur may turn."""

    weights: dict[str, np.ndarray]
    mean: tuple[float, ...] = MEAN
    deviation: tuple[float, ...] = DEVIATION
    dropped: frozenset[str] = field(default_factory=frozenset)

    def model(self, upto: str | None = None) -> onnx.ModelProto:
        """Build the graph: pixels uint8 (n, 32, 32, 3) -> embedding float32 (n, 48); or up to one layer's output."""
        nodes: list[onnx.NodeProto] = []
        weights = {
            **self.weights,
            "mean": np.array(self.mean, np.float32),
            "deviation": np.array(self.deviation, np.float32),
            "zero": np.float32(0),
            "six": np.float32(6),
        }

        def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
            nodes.append(helper.make_node(kind, inputs, [output], **attributes))
            return output

        node("Cast", ["pixels"], "cast", to=TensorProto.FLOAT)
        node("Sub", ["cast", "mean"], "moved")
        node("Div", ["moved", "deviation"], "scaled")
        x = node("Transpose", ["scaled"], "picture", perm=[0, 3, 1, 2])
        entry = x
        for layer in LAYERS:
            if layer.name.endswith(".widen"):
                entry = x
            if layer.name not in self.dropped:
                pads = [layer.size // 2] * 4
                group = layer.fed if layer.alone else 1
                inputs = [x, f"{layer.name}.w", f"{layer.name}.b"]
                x = node("Conv", inputs, layer.name, strides=[layer.stride] * 2, pads=pads, group=group)
                if layer.name == upto:
                    break
                if layer.clipped:
                    x = node("Clip", [x, "zero", "six"], f"{layer.name}.clip")
            if layer.name.endswith(".narrow"):
                x = node("Add", [entry, x], f"{layer.name}.add")
        else:
            x = node("GlobalAveragePool", [x], "pooled")
            x = node("Flatten", [x], "flat")
            x = node("Gemm", [x, "out.w", "out.b"], "vector", transB=1)
            x = node("LpNormalization", [x], "embedding", axis=-1, p=2)
        used = {name for item in nodes for name in item.input}
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes,
            "net",
            [value("pixels", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
            [value(x, TensorProto.FLOAT, ["n", WIDTH] if upto is None else None)],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items() if name in used],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        return model


def answers(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"pixels": pixels})[0])


def pictures(draw: np.random.Generator, count: int) -> np.ndarray:
    """Draw coloured pictures: a gradient of two colours, some rectangles, a little noise; uint8 (count, 32, 32, 3)."""
    made = []
    ramp = np.linspace(0, 1, SIDE)[:, None, None]
    for _ in range(count):
        one, two = draw.uniform(0, 255, (2, 3))
        picture = ramp * one + (1 - ramp) * two
        picture = np.broadcast_to(picture, (SIDE, SIDE, 3)).copy()
        if draw.random() < 0.5:
            picture = picture.transpose(1, 0, 2)
        for _ in range(draw.integers(1, 5)):
            top, left = draw.integers(0, SIDE - 6, 2)
            height, width = draw.integers(4, 20, 2)
            picture[top : top + height, left : left + width] = draw.uniform(0, 255, 3)
        made.append(picture + draw.normal(0, 6, picture.shape))
    return np.clip(np.stack(made), 0, 255).astype(np.uint8)


def network(draw: np.random.Generator) -> Network:
    """Draw weights, and scale each layer as batch normalisation would have left it."""
    weights: dict[str, np.ndarray] = {}
    seen = pictures(draw, 24)
    for layer in LAYERS:
        shape = (layer.made, 1 if layer.alone else layer.fed, layer.size, layer.size)
        weight = draw.standard_normal(shape).astype(np.float32)
        weights[f"{layer.name}.w"] = weight
        weights[f"{layer.name}.b"] = np.zeros(layer.made, np.float32)
        made = answers(Network(weights).model(layer.name), seen)
        scale = draw.uniform(0.7, 1.3, layer.made) / (made.std(axis=(0, 2, 3)) + 1e-3)
        weights[f"{layer.name}.w"] = (weight * scale[:, None, None, None]).astype(np.float32)
        shift = draw.normal(0.3, 0.3, layer.made) - made.mean(axis=(0, 2, 3)) * scale
        weights[f"{layer.name}.b"] = shift.astype(np.float32)
    weights["out.w"] = (draw.standard_normal((WIDTH, LAYERS[-1].made)) * 0.1).astype(np.float32)
    weights["out.b"] = np.zeros(WIDTH, np.float32)
    return Network(weights)


class Calibration(CalibrationDataReader):  # type: ignore[misc]  # it carries no types
    """Hands pictures to the quantizer, four at a time."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._batches: Iterator[np.ndarray] = iter(np.split(pixels, len(pixels) // 4))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"pixels": batch}


def quantized(model: onnx.ModelProto, path: Path, pixels: np.ndarray) -> Path:
    """Write the model with INT8 weights and activations, calibrated on these pictures."""
    source = path.with_suffix(".fp32.onnx")
    onnx.save(model, source)
    quantize_static(
        str(source),
        str(path),
        Calibration(pixels),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )
    return path


@pytest.fixture(autouse=True)
def _quiet_quantizer() -> Iterator[None]:
    """Silence the quantizer's advice to pre-process, which it logs through the root logger."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@dataclass(frozen=True)
class Trial:
    """One random network with its golden set, another one, and the draws for spoiling it."""

    seed: int
    draw: np.random.Generator
    honest: Network
    golden: Golden
    another: Network

    @classmethod
    def of(cls, seed: int) -> Trial:
        trial = drawn(seed)
        return replace(trial, draw=copy.deepcopy(trial.draw))

    def changed(self, **weights: np.ndarray) -> Network:
        dotted = {name.replace("__", "."): array for name, array in weights.items()}
        return replace(self.honest, weights={**self.honest.weights, **dotted})

    def sabotaged(self) -> dict[str, Network]:
        """Spoil the network in every way: what goes wrong in conversions, downloads and preprocessing."""
        draw, weights = self.draw, self.honest.weights
        average = self.golden.outputs["embedding"].mean(axis=0)
        convolution = f"{draw.choice([layer.name for layer in LAYERS])}.w"
        droppable = draw.choice([layer.name for layer in LAYERS if layer.fed == layer.made])
        block = draw.choice(["a", "b"])
        tensor = str(draw.choice([name for name, array in weights.items() if array.ndim > 1]))
        cut = weights[tensor].copy().reshape(-1)
        cut[int(cut.size * draw.uniform(0.25, 0.75)) :] = 0
        broken = weights[convolution].copy()
        broken.flat[int(draw.integers(broken.size))] = np.nan
        order = np.roll(np.arange(WIDTH), int(draw.integers(1, WIDTH)))
        return {
            "constant output": self.changed(out__w=np.zeros_like(weights["out.w"]), out__b=average),
            "swapped channels": replace(
                self.changed(stem__w=weights["stem.w"][:, ::-1].copy()), mean=MEAN[::-1], deviation=DEVIATION[::-1]
            ),
            "normalised to 0..1": replace(self.honest, mean=(0, 0, 0), deviation=(255, 255, 255)),
            "normalised to -1..1": replace(self.honest, mean=(127.5,) * 3, deviation=(127.5,) * 3),
            "not normalised": replace(self.honest, mean=(0, 0, 0), deviation=(1, 1, 1)),
            "dropped layer": replace(self.honest, dropped=frozenset({str(droppable)})),
            "dropped block": self.changed(
                **{f"{block}__narrow__{part}": np.zeros_like(weights[f"{block}.narrow.{part}"]) for part in "wb"}
            ),
            "truncated weights": self.changed(**{tensor.replace(".", "__"): cut.reshape(weights[tensor].shape)}),
            "zeroed layer": self.changed(**{convolution.replace(".", "__"): np.zeros_like(weights[convolution])}),
            "permuted outputs": self.changed(out__w=weights["out.w"][order], out__b=weights["out.b"][order]),
            "not a number": self.changed(**{convolution.replace(".", "__"): broken}),
            "another network": self.another,
        }


@lru_cache(maxsize=32)
def drawn(seed: int) -> Trial:
    """Draw what takes long, once for all tests of a tenth."""
    draw = np.random.default_rng(seed)
    honest = network(draw)
    pixels = pictures(draw, SAMPLES)
    golden = Golden(
        inputs={"pixels": pixels},
        outputs={"embedding": answers(honest.model(), pixels)},
        rank="embedding",
        other=draw.standard_normal((12, WIDTH)).astype(np.float32),
    )
    return Trial(seed, draw, honest, golden, another=network(np.random.default_rng((seed, 1))))


def refused(load: Callable[[Path], object], path: Path, error: type[Exception] = ProofFailedError) -> bool:
    try:
        load(path)
    except error:
        return True
    return False


@pytest.mark.trials
@pytest.mark.timeout(3600)  # the full count takes minutes
def test_a_sabotaged_graph_is_refused_every_time(tmp_path: Path, trials: int, soak: Callable[..., None]) -> None:
    strict = Delegate("cpu", Policy(strict=True), cache_dir=tmp_path / "cache")
    counts: dict[str, list[int]] = {}
    for seed in range(trials):
        trial = Trial.of(seed)
        for name, network_ in trial.sabotaged().items():
            path = tmp_path / f"{name}.onnx"
            onnx.save(network_.model(), path)
            count = counts.setdefault(name, [0, 0])
            count[0] += refused(lambda path: strict.load(path, "fp32", trial.golden), path)  # noqa: B023
            count[1] += 1

    soak("sabotaged_fp32", {name: {"refused": count[0], "of": count[1]} for name, count in counts.items()})
    assert counts == {name: [trials, trials] for name in counts}
    assert len(counts) == 12


@pytest.mark.trials
@pytest.mark.timeout(3600)  # the full count takes minutes
def test_a_sabotaged_graph_is_refused_even_under_the_wider_floor_of_int8(
    tmp_path: Path, trials: int, soak: Callable[..., None]
) -> None:
    strict = Delegate("cpu", Policy(strict=True), cache_dir=tmp_path / "cache")
    counts: dict[str, list[int]] = {}
    for seed in range(trials):
        trial = Trial.of(seed)
        calibration = pictures(trial.draw, 8)
        for name, network_ in trial.sabotaged().items():
            if name == "not a number":
                continue  # the quantizer will not take it
            path = quantized(network_.model(), tmp_path / f"{name}.onnx", calibration)
            count = counts.setdefault(name, [0, 0])
            count[0] += refused(lambda path: strict.load(path, "int8", trial.golden), path)  # noqa: B023
            count[1] += 1

    soak("sabotaged_int8", {name: {"refused": count[0], "of": count[1]} for name, count in counts.items()})
    assert counts == {name: [trials, trials] for name in counts}
    assert len(counts) == 11


@pytest.mark.trials
@pytest.mark.timeout(3600)  # the full count takes minutes
def test_a_file_that_was_cut_off_anywhere_is_refused_as_unreadable(
    tmp_path: Path, trials: int, soak: Callable[..., None]
) -> None:
    strict = Delegate("cpu", Policy(strict=True), cache_dir=tmp_path / "cache")
    count = 0
    for seed in range(trials):
        trial = Trial.of(seed)
        whole = trial.honest.model().SerializeToString()
        path = tmp_path / f"{seed}.onnx"
        path.write_bytes(whole[: int(trial.draw.integers(0, len(whole)))])
        count += refused(lambda path: strict.load(path, "fp32", trial.golden), path, UnreadableGraphError)  # noqa: B023

    soak("cut_files", {"refused": count, "of": trials})
    assert count == trials


@pytest.mark.trials
@pytest.mark.timeout(3600)  # the full count takes minutes
def test_an_honest_graph_is_never_refused(tmp_path: Path, trials: int, soak: Callable[..., None]) -> None:
    counts: dict[str, list[int]] = {}
    for seed in range(trials):
        trial = Trial.of(seed)
        model = trial.honest.model()
        plain = tmp_path / "plain.onnx"
        onnx.save(model, plain)
        variants = {
            "one thread": (plain, "fp32", 1, trial.golden),
            "two threads": (plain, "fp32", 2, trial.golden),
            "optimised": (optimised(model, tmp_path / "basic.onnx", "ORT_ENABLE_BASIC"), "fp32", 1, trial.golden),
            "optimised more": (optimised(model, tmp_path / "all.onnx", "ORT_ENABLE_EXTENDED"), "fp32", 1, trial.golden),
        }
        int8, other = (quantized(model, tmp_path / f"int8-{i}.onnx", pictures(trial.draw, 8)) for i in range(2))
        variants["int8"] = (int8, "int8", 1, trial.golden)
        variants["int8 of another calibration"] = (other, "int8", 1, trial.golden)
        stated = prove(int8, trial.golden, "int8", cache_dir=tmp_path / "cache").floor()
        exact = replace(trial.golden, floors={"int8": stated})
        rewritten = optimised(onnx.load(int8), tmp_path / "int8-all.onnx", "ORT_ENABLE_EXTENDED")
        variants["int8 under a stated floor"] = (rewritten, "int8", 2, exact)
        for name, (path, precision, threads, golden) in variants.items():
            strict = Delegate("cpu", Policy(strict=True), cache_dir=tmp_path / "cache", threads=threads)
            count = counts.setdefault(name, [0, 0])
            count[0] += not refused(lambda path: strict.load(path, precision, golden), path)  # noqa: B023
            count[1] += 1

    soak("honest", {name: {"accepted": count[0], "of": count[1]} for name, count in counts.items()})
    assert counts == {name: [trials, trials] for name in counts}


def optimised(model: onnx.ModelProto, path: Path, level: str) -> Path:
    """Write the graph as onnxruntime rewrites it at one optimisation level."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return path


def test_a_constant_is_refused_where_its_plain_cosine_would_pass(tmp_path: Path) -> None:
    trial = Trial.of(0)
    towards = np.ones(WIDTH, np.float32) * 40  # all answers in one narrow cone
    cone = trial.changed(out__b=towards)
    pixels = trial.golden.inputs["pixels"]
    golden = replace(trial.golden, outputs={"embedding": answers(cone.model(), pixels)})
    average = golden.outputs["embedding"].mean(axis=0)
    path = tmp_path / "constant.onnx"
    onnx.save(trial.changed(out__w=np.zeros_like(trial.honest.weights["out.w"]), out__b=average).model(), path)

    report = prove(path, golden, "int8", cache_dir=tmp_path / "cache")

    assert report.findings[0].cosine > golden.floor("int8").cosine
    assert not report.passed
    assert "nearly the same for different inputs" in report.reason
