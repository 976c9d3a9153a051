"""From a trained decoder to the embedded files: graphs in INT8, golden sets, calibration, manifest."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import nearsight_models
from nearsight_npu import Floor, Golden, prove, quantize
from training import data
from training.caption import calibrate, features, graphs, model, texts, train
from training.files import row
from training.golden import PHOTOS, reference

log = logging.getLogger("training")
ROOT = Path(__file__).parents[2] / "nearsight_models"
PICTURES = ("astronaut", "coffee")
GIVEN_BITS, WANTED_BITS = 4, 6  # inputs may be anything likely; answers are kept to 1 %
SAID = 4  # pieces in the past of the golden steps
# A little below what honest files reach on this machine, and damaged ones do not (tests/sdk/test_caption_files.py).
FLOORS = {
    "see": Floor(cosine=0.999, centred=0.998, order=0.9),
    "step": Floor(cosine=0.999, centred=0.997, order=0.9),
}
TRAINED_ON = (
    "the picture tower of nano, frozen (see its page for what it was trained on, part of it for research only)",
    "Flickr8k photographs and captions, Flickr8k-CN captions and machine translations (research use)",
    "COCO photographs, captions made from their boxes (annotations CC BY 4.0; photographs under Flickr terms)",
)


def write(work: Path, trainer: train.Trainer, root: Path = ROOT) -> None:
    """Write everything that ships from the best checkpoint of the curve."""
    out = root / "embedded" / "nano"
    decoder = trainer.averaged
    decoder.load_state_dict(torch.load(work / "best.pt", weights_only=True))
    write_graphs(work, out, decoder)
    shutil.copyfile(work / "vocabulary.spm", out / "caption.spm")
    write_golden(work, out)
    for role in ("see", "step"):
        report = prove(out / f"caption.{role}.int8.onnx", out / f"caption.{role}.golden.npz", "int8")
        found = [(finding.output, finding.cosine, finding.centred) for finding in report.findings]
        log.info("%s: %s", role, found)
        if not report.passed:
            raise SystemExit(f"caption.{role}.int8.onnx does not give its golden answers: {report.reason}")
    confidence = calibrate.fitted(out, rules(), trainer)
    write_page(root, sum(p.numel() for p in decoder.parameters()), confidence)
    log.info("written to %s", root)


def write_graphs(work: Path, out: Path, decoder: model.Decoder) -> None:
    """Both graphs in FP32 (to `work`) and in dynamic INT8."""
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
        "starts": {"en": texts.EN, "zh": texts.ZH},
    }


def coarse(array: np.ndarray, bits: int) -> np.ndarray:
    """Round to so many bits behind the leading one, so that the archive is small; still float32."""
    fraction, exponent = np.frexp(array.astype(np.float32))
    return np.ldexp(np.round(fraction * 2 ** (bits + 1)) / 2 ** (bits + 1), exponent).astype(np.float32)


def write_golden(work: Path, out: Path) -> None:
    """Golden sets from public-domain photographs: what the reference sees, and its fifth piece."""
    pixels = np.stack([data.squared(Image.open(PHOTOS / f"{name}.jpg").convert("RGB")) for name in PICTURES])
    grid, embedding = features.sessions()["int8"].run(["grid", "embedding"], {"pixels": pixels})
    see, step = (reference(work / f"caption.{role}.fp32.onnx") for role in ("see", "step"))
    given = {"grid": coarse(grid, GIVEN_BITS), "embedding": coarse(embedding, GIVEN_BITS)}
    (seen,) = see.run(["seen"], given)
    Golden(inputs=given, outputs={"seen": coarse(seen, WANTED_BITS)}, floors={"int8": FLOORS["see"]}).save(
        out / "caption.see.golden.npz"
    )
    seen = coarse(seen, GIVEN_BITS)
    ids = np.full((len(pixels), 1), texts.EN, np.int64)
    count, rows, heads, _, deep = seen.shape
    past = np.zeros((count, rows, heads, 0, deep), np.float32)
    for _ in range(SAID):
        logits, past = step.run(["logits", "present"], {"ids": ids, "seen": seen, "past": past})
        logits[:, [texts.PAD, texts.UNKNOWN, texts.END]] = -np.inf
        ids = logits.argmax(1)[:, None]
    given = {"ids": ids, "seen": seen, "past": coarse(past, GIVEN_BITS)}
    (logits,) = step.run(["logits"], given)
    Golden(inputs=given, outputs={"logits": coarse(logits, WANTED_BITS)}, floors={"int8": FLOORS["step"]}).save(
        out / "caption.step.golden.npz"
    )


def write_page(root: Path, parameters: int, confidence: dict[str, list[float]]) -> None:
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
            for role in ("see", "step")
            for line in (f"[files.{role}]", f"int8 = {row(root, at / f'caption.{role}.int8.onnx')}", "")
        ),
        "[files.vocabulary]",
        f"spm = {row(root, at / 'caption.spm')}",
        "",
        "[golden]",
        *(f"{role} = {row(root, at / f'caption.{role}.golden.npz')}" for role in ("see", "step")),
        "",
        "[settings]",
        'trunk = "nano"',
        f'space = "{trunk.space}"',
        *(f"{key} = {json.dumps(value)}" for key, value in settings.items()),
        "",
        "[settings.starts]",
        *(f"{language} = {start}" for language, start in starts.items()),
        "",
        "# [slope, intercept] of the logistic of the mean log probability.",
        "[settings.confidence]",
        *(f"{language} = {json.dumps(pair)}" for language, pair in confidence.items()),
        "",
    ]
    (root / "manifests" / "nano-caption.toml").write_text("\n".join(lines), encoding="utf8")
