"""From a trained decoder to the embedded files: graphs in INT8, golden sets, calibration, manifest."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import nearsight_models
from nearsight_npu import Floor, Golden, prove, quantize
from training import lite0
from training.caption import calibrate, features, graphs, model, texts
from training.export import PERCENTILE, calibration_pictures
from training.files import row
from training.golden import PHOTOS, reference

log = logging.getLogger("training")
ROOT = Path(__file__).parents[2] / "nearsight_models"
PICTURES = ("astronaut", "coffee")
CALIBRATION = 100  # pictures that set the ranges of the top; a quarter as many compare
GIVEN_BITS, WANTED_BITS = 4, 6  # inputs may be anything likely; answers are kept to 1 %
ROLES = ("top", "see", "step")
# Captions followed side by side; the one that agrees best with the picture is said if it gains so much on the greedy
# one: the best sum of both languages' CIDEr on the pictures that the search model was not trained on.
BEAMS, GAIN = 5, 0.1
SAID = 4  # pieces in the past of the golden steps
# A little below what honest files reach on this machine, and damaged ones do not (tests/sdk/test_caption_files.py).
FLOORS = {
    "top": Floor(cosine=0.98, centred=0.97, order=0.9),
    "see": Floor(cosine=0.999, centred=0.998, order=0.9),
    "step": Floor(cosine=0.999, centred=0.997, order=0.9),
}
TRAINED_ON = (
    "the lower half of nano's picture tower and nano's detector, both as they are (see their pages)",
    "the upper half of EfficientNet-Lite0 (Apache-2.0), itself trained on ImageNet (research use), tuned here",
    "Flickr8k photographs and captions, Flickr8k-CN captions and machine translations (research use)",
    "COCO photographs, captions made from their boxes (annotations CC BY 4.0; photographs under Flickr terms)",
)


def write(folder: Path, work: Path, decoder: model.Decoder, root: Path = ROOT) -> None:
    """Write everything that ships from a trained decoder and its top."""
    out = root / "embedded" / "nano"
    eyes = features.Eyes()
    write_top(folder, work, out, eyes, decoder.top)
    write_decoder(work, out, decoder)
    shutil.copyfile(work / "vocabulary.spm", out / "caption.spm")
    write_golden(work, out, eyes)
    for role in ROLES:
        report = prove(out / f"caption.{role}.int8.onnx", out / f"caption.{role}.golden.npz", "int8")
        found = [(finding.output, finding.cosine, finding.centred) for finding in report.findings]
        log.info("%s: %s", role, found)
        if not report.passed:
            raise SystemExit(f"caption.{role}.int8.onnx does not give its golden answers: {report.reason}")
    write_page(root, sum(p.numel() for p in decoder.parameters()))
    calibrate.write(folder, root)
    log.info("written to %s", root)


def write_top(folder: Path, work: Path, out: Path, eyes: features.Eyes, top: model.Top) -> None:
    """The tuned upper half in FP32 (to `work`) and in static INT8, as the tower's own is made."""
    full, target = work / "caption.top.fp32.onnx", out / "caption.top.int8.onnx"
    trunk = lite0.load_trunk()
    trunk.upper, trunk.head = top.upper, top.head
    graphs.write_top(full, trunk)
    report = quantize(
        full,
        target,
        calibration=({"lower": eyes.lower(given["pixels"])} for given in calibration_pictures(folder)),
        kinds={"Conv", "Clip", "Add"},
        method="percentile",
        percentile=PERCENTILE,
        reduce_range=False,
        samples=CALIBRATION,
    )
    log.info("%s: %s", target.name, json.dumps(report.to_dict()))


def write_decoder(work: Path, out: Path, decoder: model.Decoder) -> None:
    """The decoder's graphs in FP32 (to `work`) and in dynamic INT8."""
    for role, write_one in (("see", graphs.write_see), ("step", graphs.write_step)):
        full, small = work / f"caption.{role}.fp32.onnx", out / f"caption.{role}.int8.onnx"
        write_one(full, decoder)
        with tempfile.TemporaryDirectory() as place:
            written = Path(place) / "int8.onnx"
            quantize(full, written, mode="dynamic")
            share_table(written, small)
        log.info("%s: %d bytes", small.name, small.stat().st_size)


def share_table(source: Path, target: Path) -> None:
    """Let pieces be read from the INT8 matrix by which they are scored, and drop the FP32 copy of it."""
    graph_model = onnx.load(source)
    graph = graph_model.graph
    for node in list(graph.node):
        if node.op_type == "Gather" and f"{node.input[0]}_quantized" in {w.name for w in graph.initializer}:
            table, ids, read = node.input[0], node.input[1], node.output[0]
            codes, floats, scales = f"{read}.codes", f"{read}.float", f"{read}.scales"
            parts = [
                helper.make_node("Gather", [f"{table}_quantized", ids], [codes], name=codes, axis=1),
                helper.make_node("Cast", [codes], [floats], name=floats, to=TensorProto.FLOAT),
                helper.make_node("Gather", [f"{table}_scale", ids], [scales], name=scales),
                helper.make_node("Mul", [floats, scales], [read], name=read),
            ]
            zero = next(w for w in graph.initializer if w.name == f"{table}_zero_point")
            assert not numpy_helper.to_array(zero).any(), "codes are symmetric"
            place = list(graph.node).index(node)
            graph.node.remove(node)
            for part in reversed(parts):
                graph.node.insert(place, part)
            graph.initializer.remove(next(w for w in graph.initializer if w.name == table))
    onnx.checker.check_model(graph_model)
    onnx.save(graph_model, target)


def rules() -> dict[str, object]:
    """What decoding needs to know, as the manifest states it."""
    return {
        "end": texts.END,
        "silent": [texts.PAD, texts.UNKNOWN, texts.EN, texts.ZH, texts.TRANSLATED],
        "longest": texts.LONGEST - 2,
        "beams": BEAMS,
        "gain": GAIN,
        "starts": {"en": texts.EN, "zh": texts.ZH},
    }


def coarse(array: np.ndarray, bits: int) -> np.ndarray:
    """Round to so many bits behind the leading one, so that the archive is small; still float32."""
    fraction, exponent = np.frexp(array.astype(np.float32))
    return np.ldexp(np.round(fraction * 2 ** (bits + 1)) / 2 ** (bits + 1), exponent).astype(np.float32)


def write_golden(work: Path, out: Path, eyes: features.Eyes) -> None:
    """Golden sets from public-domain photographs: what the reference sees, and its fifth piece."""
    pictures = [Image.open(PHOTOS / f"{name}.jpg").convert("RGB") for name in PICTURES]
    top, see, step = (reference(work / f"caption.{role}.fp32.onnx") for role in ROLES)
    lower, scene, findings = eyes.see(pictures)
    lower = coarse(lower, GIVEN_BITS)
    (cells,) = top.run(["cells"], {"lower": lower})
    _save(out, "top", {"lower": lower}, {"cells": coarse(cells, GIVEN_BITS)})
    given = {"cells": coarse(cells, GIVEN_BITS), "scene": coarse(scene, GIVEN_BITS), "findings": findings}
    (seen,) = see.run(["seen"], given)
    _save(out, "see", given, {"seen": coarse(seen, WANTED_BITS)})
    seen = coarse(seen, GIVEN_BITS)
    ids = np.full((len(pictures), 1), texts.EN, np.int64)
    count, rows, heads, _, deep = seen.shape
    past = np.zeros((count, rows, heads, 0, deep), np.float32)
    for _ in range(SAID):
        logits, past = step.run(["logits", "present"], {"ids": ids, "seen": seen, "past": past})
        logits[:, [texts.PAD, texts.UNKNOWN, texts.END]] = -np.inf
        ids = logits.argmax(1)[:, None]
    given = {"ids": ids, "seen": seen, "past": coarse(past, GIVEN_BITS)}
    # The last layer's memory of the latest piece hardly shows in the logits yet: it is compared itself.
    wanted = dict(zip(("logits", "present"), step.run(["logits", "present"], given), strict=True))
    _save(out, "step", given, {name: coarse(array, WANTED_BITS) for name, array in wanted.items()})


def _save(out: Path, role: str, given: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    Golden(inputs=given, outputs=wanted, floors={"int8": FLOORS[role]}).save(out / f"caption.{role}.golden.npz")


def write_page(root: Path, parameters: int) -> None:
    """Write manifests/nano-caption.toml; it names the space of the tower that the decoder looks through."""
    at = root / "embedded" / "nano"
    trunk = nearsight_models.load("nano", "search")
    settings = rules()
    starts = settings.pop("starts")
    assert isinstance(starts, dict)
    lines = [
        "# Written by models/training/caption (export.py).",
        'name = "nano-caption"',
        'family = "nano"',
        'capability = "caption"',
        'summary = "says in one sentence what a photograph shows, in English or Chinese"',
        'languages = ["en", "zh"]',
        'licence = "LicenseRef-nearsight-nano-weights"',
        "research_only = true",
        f"parameters = {parameters}",
        "trained_on = [",
        *(f"  {json.dumps(line)}," for line in TRAINED_ON),
        "]",
        "",
        "# Of the picture tower.",
        "[preprocessing]",
        f"size_wh = {list(trunk.preprocessing.size_wh)}",
        f'mode = "{trunk.preprocessing.mode}"',
        f'resample = "{trunk.preprocessing.resample}"',
        "",
        *(
            line
            for role in ROLES
            for line in (f"[files.{role}]", f"int8 = {row(root, at / f'caption.{role}.int8.onnx')}", "")
        ),
        "[files.vocabulary]",
        f"spm = {row(root, at / 'caption.spm')}",
        "",
        "[golden]",
        *(f"{role} = {row(root, at / f'caption.{role}.golden.npz')}" for role in ROLES),
        "",
        "[settings]",
        'trunk = "nano"',
        'detector = "nano"',
        f'space = "{trunk.space}"',
        *(f"{key} = {json.dumps(value)}" for key, value in settings.items()),
        "",
        "[settings.starts]",
        *(f"{language} = {start}" for language, start in starts.items()),
        "",
    ]
    (root / "manifests" / "nano-caption.toml").write_text("\n".join(lines), encoding="utf8")
