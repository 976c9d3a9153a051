"""Makes the golden sets: a few public-domain photographs and sentences with the reference's answers."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnxruntime as ort
import sentencepiece
from PIL import Image

from nearsight_npu import Floor, Golden
from training import data, e5, textgraph, texts

log = logging.getLogger("training")
PHOTOS = Path(__file__).parent.parent.parent / "tests" / "photos"
PICTURES = ("astronaut", "cat", "coffee", "rocket", "coins")
SENTENCES = (
    "an astronaut in an orange suit",
    "a ginger cat",
    "a cup of coffee on a wooden table",
    "a rocket on its launch pad",
    "old coins",
    "a dog runs on the beach",
    "穿橙色衣服的女宇航员",
    "一只猫",
    "桌子上的一杯咖啡",
    "发射台上的火箭",
    "古代硬币",
    "两个孩子在踢足球",
    # As long as a query can be, so that every position is proven.
    (
        "a woman with a red umbrella and a black bag waits at the corner of a wide street in the rain while two "
        "children and a brown dog run past a yellow bus, a man sells fruit from a small cart, and behind them the "
        "lights of shops, cafes and a cinema shine on the wet road late in the evening"
    ),
    (
        "一位撑着红伞、背着黑色包的女士在雨中街道的拐角处等候，"
        "两个孩子和一只棕色的狗从一辆黄色的公共汽车旁跑过，"
        "一个男人推着小车卖水果，"
        "他们身后的商店、咖啡馆和电影院的灯光照在傍晚湿漉漉的马路上，还有骑自行车的人和出租车"
    ),
)
# A little below what honest files reach on this machine (`make train` logs it) and on others with fewer instructions.
FLOORS = {
    "fp32": Floor(cosine=0.999, centred=0.995, order=0.98),
    "fp16": Floor(cosine=0.999, centred=0.995, order=0.98),
    "int8": Floor(cosine=0.98, centred=0.984, order=0.95),
    "w4": Floor(cosine=0.997, centred=0.997, order=0.97),
}


def reference(path: Path) -> ort.InferenceSession:
    """The plainest way to run a graph: no rewriting, one thread."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def write(work: Path, out: Path) -> None:
    """Write image.golden.npz and text.golden.npz from the graphs in FP32 (on the same 4-bit codes for texts)."""
    pixels = np.stack([data.squared(Image.open(PHOTOS / f"{name}.jpg").convert("RGB")) for name in PICTURES])
    (image,) = reference(work / "image.fp32.onnx").run(["embedding"], {"pixels": pixels})
    _write(work, out, pixels, image)
    for name in ("image.fp16.onnx", "image.int8.onnx"):
        (found,) = ort.InferenceSession(out / name, providers=["CPUExecutionProvider"]).run(
            ["embedding"], {"pixels": pixels}
        )
        log.info("%s: cosine to FP32 on the golden photographs %s", name, np.round((found * image).sum(1), 4).tolist())


def rewrite_texts(work: Path, out: Path) -> None:
    """Write both sets anew for another text tower; the pictures' answers stay those of the set there is."""
    there = Golden.load(out / "image.golden.npz")
    _write(work, out, there.inputs["pixels"], there.outputs["embedding"])


def _write(work: Path, out: Path, pixels: np.ndarray, image: np.ndarray) -> None:
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(out / "vocabulary.spm"))
    rows = [texts.encode(tokenizer, sentence, textgraph.POSITIONS) for sentence in SENTENCES]
    longest = max(map(len, rows))
    assert longest == textgraph.POSITIONS, f"the longest sentence has {longest} tokens"
    ids = np.array([row + [e5.PAD] * (longest - len(row)) for row in rows], np.int64)
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows], np.int64)
    (text,) = reference(work / "text.reference.onnx").run(["embedding"], {"ids": ids, "mask": mask})
    image_set = Golden(
        inputs={"pixels": pixels},
        outputs={"embedding": image},
        rank="embedding",
        other=text,
        floors={k: FLOORS[k] for k in ("fp32", "fp16", "int8")},
    )
    text_set = Golden(
        inputs={"ids": ids, "mask": mask},
        outputs={"embedding": text},
        rank="embedding",
        other=image,
        floors={"w4": FLOORS["w4"]},
    )
    image_set.save(out / "image.golden.npz"), text_set.save(out / "text.golden.npz")
