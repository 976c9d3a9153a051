"""Detectors of the real architectures: what runs without torch gives the boxes and scores of transformers' own code."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_detectors as tiny
import torch
from PIL import Image

import nearsight as ns
from nearsight.detect.detector import MOST
from nearsight.exporting import export_model

if TYPE_CHECKING:
    from pathlib import Path

BOX_PX, SCORE = 1.0, 1e-3
# Other words, counts and lengths than any graph was traced with; the last is longer than OWLv2's sixteen tokens.
QUESTIONS = (
    ["cat"],
    ["cat", "red car", "traffic light on the beach", "dog"],
    ["person on the beach of the red traffic light of the car of the cat of the dog of the person", "dog's car"],
)

# Boxes and scores of each picture, before anything is left out, then what `detect` and batches make of it.
LOOK = """
    import json, sys
    from pathlib import Path
    import nearsight as ns
    from nearsight.detect.looks import look
    from nearsight.sight import Sight
    folder, model, questions = sys.argv[2:5]
    detector = ns.Detector(model, threads=1)
    detector._leaf.max_overlap = 1.0  # nothing is suppressed, as by the model's own processor
    pictures = sorted(Path(folder).glob("*.png"))
    for number, labels in enumerate(json.loads(questions)):
        question = detector._question(labels, 0.0, None)
        for place, picture in enumerate(pictures):
            sight = Sight(picture)
            (part,) = question.parts
            outputs, decision = look(detector._engine, detector._leaf, sight, part.words)
            key = f"{number}.{place}"
            found[f"boxes.{key}"] = detector._leaf.boxes(outputs, sight.size_wh)
            found[f"scores.{key}"] = part.scores(outputs)
            given = detector.detect(sight, labels, 0.3)
            found[f"given.{key}"] = np.concatenate(
                [given.boxes_xyxy, given.scores[:, None], [[labels.index(label)] for label in given.labels]], 1
            ) if len(given) else np.zeros((0, 6))
    alone = [detector.detect(picture, labels, 0.3) for picture in pictures]
    for one, other in zip(alone, detector.detect_many(pictures, labels, 0.3, batch=2), strict=True):
        assert one.labels == other.labels and one.size_wh == other.size_wh, (one.labels, other.labels)
        assert np.abs(one.boxes_xyxy - other.boxes_xyxy).max(initial=0) < 0.1
        assert np.abs(one.scores - other.scores).max(initial=0) < 1e-4
"""


@pytest.fixture
def album(tmp_path: Path, photos: Path) -> Path:
    """Make a folder of five PNG files of odd sizes: grey, with alpha, turned by EXIF, larger than every canvas."""
    folder = tmp_path / "album"
    folder.mkdir()
    shapes = [
        ("cat", (201, 97)),
        ("coffee", (41, 150)),
        ("rocket", (64, 64)),
        ("coins", (37, 61)),
        ("photographer", (99, 80)),
        ("astronaut", (70, 71)),
    ]
    for place, (name, size) in enumerate(shapes):
        mode = {"coins": "L", "astronaut": "RGBA"}.get(name, "RGB")
        picture = Image.open(photos / f"{name}.jpg").convert(mode).resize(size)
        if mode == "RGBA":
            picture.putalpha(Image.linear_gradient("L").resize(size))
        exif = Image.Exif()
        if name == "photographer":
            exif[0x0112] = 6
        picture.save(folder / f"{place}.png", exif=exif)
    return folder


def opened(album: Path) -> list[Image.Image]:
    return [ns.read_image(path) for path in sorted(album.glob("*.png"))]


def assert_same(found: dict[str, np.ndarray], key: str, boxes: np.ndarray, scores: np.ndarray, scale: float) -> None:
    """Hold boxes and scores (a, n) against torch's; a graph that ranks its queries may give them in another order.

    Args:
        found: What ran without torch.
        key: Which question and picture.
        boxes: (a, 4), torch's, in pixels of the picture.
        scores: (a, n), torch's.
        scale: Pixels of the canvas for one of the picture.
    """
    mine_boxes, mine_scores = found[f"boxes.{key}"], found[f"scores.{key}"]
    assert mine_boxes.shape == boxes.shape
    assert mine_scores.shape == scores.shape
    off = np.abs(mine_boxes[:, None] - boxes).max(-1) * scale / BOX_PX
    wrong = np.maximum(off, np.abs(mine_scores[:, None] - scores).max(-1) / SCORE)
    pairs = wrong.argmin(axis=1)
    assert len(set(pairs.tolist())) == len(boxes), "each of torch's boxes is there once"
    assert wrong.min(axis=1).max() <= 1
    assert scores.std() > 0.01, "scores that differ"


def assert_given(found: dict[str, np.ndarray], key: str, wanted: list[tuple[Any, ...]], scale: float) -> int:
    """Hold what `detect` gives against torch's post-processing: boxes, score and number of the label, any order.

    Returns:
        How many boxes were held.
    """
    given, held = found[f"given.{key}"], 0
    for *box, score, label in wanted:
        mine = given[given[:, 5] == label]
        if len(mine) == MOST and score < mine[:, 4].min() + SCORE:
            continue  # no more are given of one label
        held += 1
        off = np.abs(mine[:, :4] - np.array(box)).max(-1) * scale
        assert ((off < BOX_PX) & (np.abs(mine[:, 4] - score) < SCORE)).any(), (key, box)
    return held


@pytest.mark.parametrize("architecture", ["owlv2", "grounding-dino", "rt-detr"])
def test_pixels_are_those_of_the_models_own_processor(architecture, album, tmp_path, entry):
    """Of the processor that transformers takes by default, whose filter is torch's and not Pillow's."""
    from transformers import AutoImageProcessor

    from nearsight.families.lookup import leaf
    from nearsight_models.manifest import parse

    getattr(tiny, architecture.replace("-", "_"))(tmp_path / "source")
    canvas = (256, 256) if architecture == "grounding-dino" else None
    page = entry("tiny", architecture, "detect")
    made = export_model(page, tmp_path / "source", folder=tmp_path / "models", canvas=canvas)
    own = leaf(parse((made / "manifest.toml").read_text(encoding="utf8"), made))
    processor = AutoImageProcessor.from_pretrained(tmp_path / "source")
    wishes = {"pad_size": {"height": 256, "width": 256}} if canvas else {}
    std = np.array(processor.image_std if processor.do_normalize else [1, 1, 1])[:, None, None]

    for picture in opened(album):
        mine = own.picture_arrays(picture)
        theirs = processor(picture, return_tensors="np", **wishes)

        assert mine.keys() == theirs.keys()
        assert np.abs((mine["pixel_values"] - theirs["pixel_values"]) * std * 255).max() < 1.01
        assert np.array_equal(mine.get("pixel_mask"), theirs.get("pixel_mask"))


@pytest.mark.parametrize("canvas", [None, (96, 96)])
def test_owlv2_gives_transformers_boxes_and_scores_for_other_words(canvas, album, tmp_path, torchless, entry):
    from transformers import AutoProcessor

    model = tiny.owlv2(tmp_path / "source")
    export_model(entry("tiny", "owlv2", "detect"), tmp_path / "source", folder=tmp_path / "models", canvas=canvas)
    processor = AutoProcessor.from_pretrained(tmp_path / "source")
    side = (canvas or (tiny.SIDE,))[0]
    size = {"height": side, "width": side}
    questions = [[f"a photo of a {label}" for label in labels] for labels in QUESTIONS]

    found = torchless(LOOK, tmp_path / "models", album, "tiny", json.dumps(QUESTIONS))

    held = 0
    for number, texts in enumerate(questions):
        for place, picture in enumerate(opened(album)):
            given = processor(
                text=[texts], images=picture, return_tensors="pt", truncation=True, max_length=16, size=size
            )
            with torch.no_grad():
                seen = model(**given, interpolate_pos_encoding=canvas is not None)
            shape, key = [picture.size[::-1]], f"{number}.{place}"
            (whole,) = processor.image_processor.post_process_object_detection(seen, threshold=0.0, target_sizes=shape)
            assert len(whole["boxes"]) == (side // 8) ** 2
            scale = side / max(picture.size)
            assert_same(found, key, whole["boxes"].numpy(), seen.logits[0].sigmoid().numpy(), scale)
            (best,) = processor.image_processor.post_process_object_detection(seen, threshold=0.3, target_sizes=shape)
            cut = np.clip(best["boxes"].numpy(), 0, picture.size * 2)
            rows = zip(cut, best["scores"].tolist(), best["labels"].tolist(), strict=True)
            inside = [(*b, s, n) for b, s, n in rows if (b[2:] - b[:2]).min() > 0]
            held += assert_given(found, key, inside, scale)
    assert held > 50


def test_owlv2_as_one_graph_with_its_words_inside_gives_the_same(album, tmp_path, torchless, entry):
    """The cut of the hub's ready exports, made here."""
    from nearsight.exporting.hubfolder import kept_files, pictures_file
    from nearsight.exporting.tracing import traced
    from nearsight.exporting.writing import Exported, written

    class Whole(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, pixel_values: Any, attention_mask: Any) -> Any:
            seen = self.model(input_ids=input_ids, pixel_values=pixel_values, attention_mask=attention_mask)
            return seen.logits, seen.pred_boxes

    model = tiny.owlv2(tmp_path / "source")
    export_model(entry("apart", "owlv2", "detect"), tmp_path / "source", folder=tmp_path / "models")
    out = tmp_path / "models" / "whole"
    (out / "onnx").mkdir(parents=True)
    ids = torch.randint(1, 400, (2, 16))
    arrays = {"input_ids": ids, "pixel_values": torch.rand(1, 3, 64, 64), "attention_mask": torch.ones_like(ids)}
    words = {0: "text_batch_size", 1: "sequence_length"}
    varying = {"input_ids": words, "attention_mask": words, "pixel_values": {0: "batch_size"}}
    traced(Whole(model), out / "onnx" / "model.onnx", arrays, ["logits", "pred_boxes"], varying)
    assets = [*kept_files(tmp_path / "source", out), pictures_file(tmp_path / "source", out)]
    made = Exported(graphs={"detect": out / "onnx" / "model.onnx"}, golden={}, assets=assets)
    written(entry("whole", "owlv2", "detect"), made, out)

    apart, whole = (
        torchless(LOOK, tmp_path / "models", album, name, json.dumps(QUESTIONS)) for name in ("apart", "whole")
    )

    for key in (key for key in apart if key.startswith(("boxes", "scores"))):
        assert whole[key].shape == apart[key].shape
        assert np.abs(whole[key] - apart[key]).max() < SCORE


def test_owlv2_looks_for_what_a_picture_shows_as_transformers_does(album, tmp_path, torchless, entry):
    from transformers import AutoProcessor

    model = tiny.owlv2(tmp_path / "source")
    export_model(entry("tiny", "owlv2", "detect"), tmp_path / "source", folder=tmp_path / "models")
    processor = AutoProcessor.from_pretrained(tmp_path / "source")
    code = """
        import sys
        from pathlib import Path
        import nearsight as ns
        from nearsight.detect.looks import look
        from nearsight.sight import Sight
        detector = ns.Detector("tiny", threads=1)
        example, *pictures = sorted(Path(sys.argv[2]).glob("*.png"))
        question = detector._question([example, "cat"], 0.0, None)
        for place, picture in enumerate(pictures):
            outputs, _ = look(detector._engine, detector._leaf, Sight(picture), {})
            found[f"scores.{place}"] = question.parts[0].scores(outputs)[:, 1]
        given = detector.detect(pictures[0], [example, "cat"], 0.0)
        assert set(zip(given.labels, given.routes)) == {("0.png", "example"), ("cat", "text")}
        assert given.boxes_xyxy.min() >= 0 and (given.boxes_xyxy[:, 2:] <= given.size_wh).all()
    """

    found = torchless(code, tmp_path / "models", album)

    example, *pictures = opened(album)
    for place, picture in enumerate(pictures):
        given = processor(images=picture, query_images=example, return_tensors="pt")
        with torch.no_grad():
            seen = model.image_guided_detection(**given)
        wanted = seen.logits[0, :, 0].sigmoid().numpy()
        assert np.abs(found[f"scores.{place}"] - wanted).max() < SCORE
        assert wanted.std() > 0.01


def test_grounding_dino_gives_transformers_boxes_and_scores_for_other_phrases(album, tmp_path, torchless, entry):
    from transformers import GroundingDinoProcessor
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil

    model = tiny.grounding_dino(tmp_path / "source", side=128)
    export_model(
        entry("tiny", "grounding-dino", "detect"), tmp_path / "source", folder=tmp_path / "models", canvas=(160, 160)
    )
    pictures = GroundingDinoImageProcessorPil(
        size={"shortest_edge": 128, "longest_edge": 160}, pad_size={"height": 160, "width": 160}
    )
    processor = GroundingDinoProcessor(pictures, tiny.bert_words())

    found = torchless(LOOK, tmp_path / "models", album, "tiny", json.dumps(QUESTIONS))

    held = 0
    for number, labels in enumerate(QUESTIONS):
        for place, picture in enumerate(opened(album)):
            given = processor(text=[labels], images=picture, return_tensors="pt")
            with torch.no_grad():
                seen = model(**given)
            key, shape = f"{number}.{place}", [picture.size[::-1]]
            (whole,) = processor.post_process_grounded_object_detection(seen, threshold=-1, target_sizes=shape)
            scale = float(given["pixel_mask"].sum() / picture.width / picture.height) ** 0.5
            tokens = seen.logits[0].sigmoid().numpy()
            spans = phrases(given["input_ids"][0].tolist())
            assert len(spans) == len(labels)
            scores = np.stack([tokens[:, span].max(1) for span in spans], 1)
            assert_same(found, key, whole["boxes"].numpy(), scores, scale)
            cut = np.clip(whole["boxes"].numpy(), 0, picture.size * 2)
            rows = [(*cut[at], scores[at, n], n) for at, n in np.argwhere(scores >= 0.3 + SCORE)]
            held += assert_given(found, key, [row for row in rows if min(row[2] - row[0], row[3] - row[1]) > 0], scale)
    assert held > 50


def phrases(ids: list[int]) -> list[slice]:
    """Give the tokens between full stops, as transformers' processor wrote them."""
    stops = [0, *(place for place, one in enumerate(ids) if one == 1012)]
    return [slice(first + 1, last) for first, last in pairwise(stops)]


@pytest.mark.parametrize("second", [False, True])
def test_rt_detr_gives_transformers_boxes_and_scores(second, album, tmp_path, torchless, entry):
    from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil

    model = tiny.rt_detr(tmp_path / "source", second=second)
    assert ("V2" in type(model).__name__) == second
    export_model(entry("tiny", "rt-detr", "detect"), tmp_path / "source", folder=tmp_path / "models")
    processor = RTDetrImageProcessorPil(size={"height": tiny.SIDE, "width": tiny.SIDE})
    labels = ["person", "motorcycle", "tv", "traffic cone"]

    found = torchless(LOOK, tmp_path / "models", album, "tiny", json.dumps([labels]))

    held = 0
    for place, picture in enumerate(opened(album)):
        with torch.no_grad():
            seen = model(**processor(images=picture, return_tensors="pt"))
        shape, scale = [picture.size[::-1]], tiny.SIDE / max(picture.size)
        (best,) = processor.post_process_object_detection(seen, threshold=0.3, target_sizes=shape)
        centre, half = seen.pred_boxes[0, :, :2].numpy(), seen.pred_boxes[0, :, 2:].numpy() / 2
        boxes = np.concatenate([centre - half, centre + half], 1) * (picture.size * 2)
        assert_same(found, f"0.{place}", boxes, seen.logits[0].sigmoid().numpy(), scale)
        cut = np.clip(best["boxes"].numpy(), 0, picture.size * 2)
        rows = zip(cut, best["scores"].tolist(), best["labels"].tolist(), strict=True)
        inside = [(*b, s, n) for b, s, n in rows if (b[2:] - b[:2]).min() > 0 and s > 0.3 + SCORE]
        held += assert_given(found, f"0.{place}", inside, scale)
    assert held > 50


def test_a_class_of_a_models_own_is_asked_by_name_and_other_words_by_crops(album, tmp_path, torchless, entry):
    tiny.rt_detr(tmp_path / "source")
    export_model(entry("tiny", "rt-detr", "detect"), tmp_path / "source", folder=tmp_path / "models")
    code = """
        import sys
        import nearsight as ns
        detector = ns.Detector("tiny", threads=1)
        assert detector.classes == ("person", "motorcycle", "tv", "traffic cone"), detector.classes
        assert detector.meaning("television") == (("tv",), "class")
        assert detector.meaning("电视") == (("tv",), "class")
        assert detector.meaning("traffic cones") == (("traffic cone",), "class")
        assert detector.meaning("policewoman")[1] == "similar"
        assert detector.meaning("helmet") == ((), "crop")
        assert detector.meaning("no person") == ((), "")
        given = detector.detect(sys.argv[2], ["person", "helmet", sys.argv[2] and ns.read_image(sys.argv[2])], 0.0)
        assert {"class", "crop", "example"} == set(given.routes), given.routes
        tiled = detector.detect(sys.argv[2], ["person"], 0.0, tiles=2)
        assert len(tiled) >= len(given[[route == "class" for route in given.routes]])
        found["count"] = len(given)
    """

    assert torchless(code, tmp_path / "models", album / "0.png")["count"] > 0


def test_fixed_batches_give_the_same(album, tmp_path, torchless, entry):
    tiny.owlv2(tmp_path / "owl")
    tiny.rt_detr(tmp_path / "rt")
    for name, source, architecture in (("owl", "owl", "owlv2"), ("rt", "rt", "rt-detr")):
        for suffix, batch in (("", None), ("-fixed", 2)):
            page = entry(name + suffix, architecture, "detect")
            export_model(page, tmp_path / source, folder=tmp_path / "models", batch=batch)

    for name in ("owl", "rt"):
        free, fixed = (
            torchless(LOOK, tmp_path / "models", album, model, json.dumps([["person", "traffic cone"]]))
            for model in (name, f"{name}-fixed")
        )
        for key in (key for key in free if key.startswith(("boxes", "scores"))):
            assert np.abs(free[key] - fixed[key]).max() < 1e-2


@pytest.mark.parametrize("architecture", ["owlv2", "grounding-dino", "rt-detr"])
def test_a_damaged_graph_is_refused_by_its_golden_set(architecture, tmp_path, entry):
    """Swapped channels, and a large weight whose second half was never written; ranking graphs have lower floors."""
    import onnx
    from onnx import numpy_helper

    from nearsight_npu import prove

    getattr(tiny, architecture.replace("-", "_"))(tmp_path / "source")
    made = export_model(entry("tiny", architecture, "detect"), tmp_path / "source", folder=tmp_path / "models")
    role, stem = ("image", "vision_model") if architecture == "owlv2" else ("detect", "model")
    whole, golden, damaged = made / "onnx" / f"{stem}.onnx", made / "golden" / f"{role}.npz", tmp_path / "damaged.onnx"
    assert prove(whole, golden, "fp32", cache_dir=tmp_path / "cache").passed

    weights = [weight.name for weight in onnx.load(whole).graph.initializer if len(weight.dims) == 4]
    first = next(name for name in weights if numpy_helper.to_array(initializer(onnx.load(whole), name)).shape[1] == 3)
    largest = max(onnx.load(whole).graph.initializer, key=lambda weight: len(weight.raw_data)).name
    for name, change in ((first, lambda held: held[:, ::-1]), (largest, halved)):
        graph = onnx.load(whole)
        held = initializer(graph, name)
        held.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(numpy_helper.to_array(held))), name))
        onnx.save(graph, damaged)

        assert not prove(damaged, golden, "fp32", cache_dir=tmp_path / "cache").passed, name


def initializer(graph: Any, name: str) -> Any:
    return next(weight for weight in graph.graph.initializer if weight.name == name)


def halved(held: np.ndarray) -> np.ndarray:
    flat = held.copy().reshape(-1)
    flat[len(flat) // 2 :] = 0
    return flat.reshape(held.shape)


@pytest.mark.parametrize(
    ("architecture", "wishes", "message"),
    [
        ("owlv2", {"canvas": (64, 96)}, "squares of whole patches of 8 pixels, such as 64x64"),
        ("owlv2", {"canvas": (60, 60)}, "squares of whole patches"),
        ("rt-detr", {"canvas": (640, 640)}, "leave it out"),
        ("grounding-dino", {"canvas": (32, 640)}, "64 pixels a side or more"),
        ("grounding-dino", {"batch": 2}, "exported with any"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line_and_leaves_nothing(architecture, wishes, message, tmp_path, entry):
    getattr(tiny, architecture.replace("-", "_"))(tmp_path / "source")

    with pytest.raises(ns.InputError, match=message):
        export_model(entry("tiny", architecture, "detect"), tmp_path / "source", folder=tmp_path / "models", **wishes)

    assert {path.name for path in (tmp_path / "models").iterdir()} <= {".tiny.lock"}


@pytest.mark.parametrize("architecture", ["owlv2", "rt-detr", "grounding-dino"])
def test_a_folder_that_holds_another_model_is_named(architecture, tmp_path, entry):
    from nearsight.errors import ModelError

    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="cannot be read as"):
        export_model(entry("tiny", architecture, "detect"), tmp_path / "empty", folder=tmp_path / "models")


def test_phrases_are_masked_as_transformers_masks_them():
    from transformers.models.grounding_dino import modeling_grounding_dino as own

    from nearsight.exporting.grounding_dino import phrase_masks

    drawn, parting = torch.Generator().manual_seed(0), torch.tensor(own.SPECIAL_TOKENS)
    for count in range(3, 60):
        ids = torch.randint(200, 210, (4, count), generator=drawn)
        ids[torch.rand(ids.shape, generator=drawn) < 0.3] = 1012
        ids[:, 0], ids[:, -1] = 101, 102
        ids[0, -2:] = torch.tensor([102, 0])  # a shorter text, filled

        mask, places = phrase_masks(ids, parting)

        wanted_mask, wanted_places = own.generate_masks_with_special_tokens_and_transfer_map(ids, parting)
        assert torch.equal(mask, wanted_mask)
        assert torch.equal(places, wanted_places)
