"""Writes the embedded graphs in their precisions, and the vocabulary, from a trained model."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import sentencepiece
from onnx import TensorProto, helper, numpy_helper

from nearsight_npu import quantize
from training import data, e5, graphs, lite0, model, textgraph, texts, train, words

log = logging.getLogger("training")
SHIPPED_ASCII = 12_000
CALIBRATION_PICTURES = 100
PERCENTILE = 99.995


def write_all(folder: Path, work: Path, out: Path, trainer: train.Trainer) -> None:
    """Write every embedded file to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    trainer.swap(trainer.averaged)
    trainer.refresh_names()
    trainer.picture.eval(), trainer.text.eval()
    write_pictures(folder, work, out, trainer.picture)
    write_texts(folder, work, out, trainer.text)


def write_pictures(folder: Path, work: Path, out: Path, tower: model.PictureTower) -> None:
    """The picture tower in FP32 (to `work`), FP16 and INT8."""
    trunk = lite0.load_trunk()
    trunk.upper, trunk.head = tower.upper, tower.head
    head = graphs.PictureHead(
        linear=tower.linear.weight.detach().numpy().T,
        linear_bias=tower.linear.bias.detach().numpy(),
        classifier=tower.classifier.weight.detach().numpy().T,
        classifier_bias=tower.classifier.bias.detach().numpy(),
        names=tower.names.numpy(),
        weight=model.NAMED_WEIGHT,
    )
    full = work / "image.fp32.onnx"
    graphs.write_picture_tower(full, lite0.layers_of(trunk), head)
    halve(full, out / "image.fp16.onnx")
    quantize_pictures(full, out / "image.int8.onnx", folder)


def halve(source: Path, target: Path, only: str | None = None) -> None:
    """Store large float weights, or one of them, in FP16 behind a cast, which a runtime folds at load."""
    graph_model = onnx.load(source)
    graph, casts = graph_model.graph, []
    for weight in list(graph.initializer):
        if weight.data_type == TensorProto.FLOAT and np.prod(weight.dims) >= 256 and only in (None, weight.name):
            array = numpy_helper.to_array(weight).astype(np.float16)
            graph.initializer.remove(weight)
            graph.initializer.append(numpy_helper.from_array(array, weight.name + ".f16"))
            casts.append(
                helper.make_node(
                    "Cast", [weight.name + ".f16"], [weight.name], name=weight.name + ".cast", to=TensorProto.FLOAT
                )
            )
    for cast in reversed(casts):
        graph.node.insert(0, cast)
    onnx.checker.check_model(graph_model)
    onnx.save(graph_model, target)


def calibration_pictures(folder: Path) -> Iterator[dict[str, np.ndarray]]:
    """Training pictures, one at a time: those to calibrate with, and behind them a quarter as many to compare on."""
    tars = (folder / "flickr8k_train.tar", folder / "detection" / "train.tar")
    used, more = CALIBRATION_PICTURES // 2, CALIBRATION_PICTURES // 8
    for first, last in ((0, used), (used, used + more)):
        for tar in tars:
            for _, picture in itertools.islice(data.pictures(tar), first, last):
                yield {"pixels": data.squared(picture)[None]}


def quantize_pictures(full: Path, target: Path, folder: Path) -> None:
    """Static INT8 of trunk and matrices; softmax, norms and mixing stay in float."""
    report = quantize(
        full,
        target,
        calibration=calibration_pictures(folder),
        kinds={"Conv", "Clip", "Add", "Gemm"},
        # The stem and the first block lose most and cost nothing in float (looked up on 50 photographs of objects51).
        keep_float=("stem", "b1."),
        method="percentile",
        percentile=PERCENTILE,
        reduce_range=False,
        samples=CALIBRATION_PICTURES,
    )
    log.info("%s: %s", target.name, json.dumps(report.to_dict()))
    halve(target, target, only="class.names")


def write_texts(folder: Path, work: Path, out: Path, tower: model.TextTower) -> None:
    """The text tower in 4 bit and its vocabulary, with fewer rare pieces than training used."""
    source = e5.read(e5.source_path())
    captions = data.read_captions(folder / "flickr8k_train_captions.jsonl")
    asked = [
        text
        for column in (captions.en, captions.zh, captions.zh_of_en, captions.zh_of_en_2)
        for row in column
        for text in row
    ]
    asked += [word for pair in words.dictionary() for word in pair]
    full = sentencepiece.SentencePieceProcessor(model_proto=e5.vocabulary(source))
    kept = texts.keep(source, full, [e5.PREFIX + text for text in asked], SHIPPED_ASCII)
    (out / "vocabulary.spm").write_bytes(e5.vocabulary(source, kept))
    textgraph.write_text_tower(out / "text.w4.onnx", source, kept, tower, shipped=True)
    textgraph.write_text_tower(work / "text.reference.onnx", source, kept, tower, shipped=False)
    log.info(
        "%d pieces shipped; files: %s", len(kept), json.dumps({p.name: p.stat().st_size for p in sorted(out.iterdir())})
    )


def lower_parameters(out: Path) -> int:
    """Weights of the shipped graphs that training did not touch: lower trunk, lower layers, token embeddings."""
    lower = sum(p.numel() for p in lite0.load_trunk().lower.parameters())
    source = e5.read(e5.source_path())
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(out / "vocabulary.spm")).get_piece_size()
    layer = sum(p.numel() for p in e5.Layer(source, 0).parameters())
    return lower + (pieces + textgraph.POSITIONS) * source.width + layer * (source.layers - train.Recipe().tuned_layers)
