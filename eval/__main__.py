"""`python -m eval --data DATA`: measures what the embedded models reach, prints tables, writes JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from eval import agent, captions, carried, curve, detection, relevance, retrieval, sets, watching, zeroshot
from rich.console import Console
from rich.table import Table

import nearsight as ns
from nearsight_npu import Delegate

RESULTS = Path(__file__).parent.parent / "bench" / "results"
# Quoted, not run here: the recipe E3 with the class block, Flickr8k dev and objects51 (the table of nano_recipe.md).
RECIPE = {
    "en": {"r1": 0.212, "r5": 0.482, "r10": 0.621},
    "zh": {"r1": 0.112, "r5": 0.318, "r10": 0.447},
    "objects51": 0.44,
}


class Full(ns.Encoder):
    """nano with its picture tower in FP32, from the file that training leaves beside its checkpoints."""

    def __init__(self, graph: Path) -> None:
        super().__init__("nano")
        self.graph = graph
        self._session = Delegate().load({"fp32": graph})

    def encode_pixels(self, pixels: np.ndarray) -> ns.Embeddings:
        outputs, decision = self._session.run({"pixels": pixels}, ("embedding",))
        return ns.Embeddings(vectors=outputs["embedding"], space=self.space, decision=decision)


def encoders(fp32: Path | None) -> dict[str, ns.Encoder]:
    """What is compared: as shipped (INT8 pictures, 4-bit texts), FP16 files, and FP32 if its file is at hand."""
    found: dict[str, ns.Encoder] = {
        "int8 (shipped)": ns.Encoder("nano", precision="int8"),
        "fp16": ns.Encoder("nano", precision="fp16"),
    }
    if fp32 is not None:
        found["fp32"] = Full(fp32)
    return found


def show(title: str, header: list[str], rows: list[list[object]]) -> None:
    """Print one table, plain in a pipe."""
    table = Table(title=title, title_justify="left")
    for name in header:
        table.add_column(name, justify="left" if name == header[0] else "right")
    for row in rows:
        table.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row))
    Console(width=110).print(table)


def part_retrieval(data: Path, compared: dict[str, ns.Encoder]) -> dict[str, object]:
    found = {name: retrieval.measure(data, encoder) for name, encoder in compared.items()}
    rows: list[list[object]] = []
    for language in ("en", "zh"):
        for way in ("text_to_image", "image_to_text"):
            for name, figures in found.items():
                f = figures[language][way]
                rows.append([f"{language} {way.replace('_', ' ')}", name, f["r1"], f["r5"], f["r10"], f["median_rank"]])
        rows.append([f"{language} text to image", "recipe E3 + class block", *RECIPE[language].values(), ""])
    chance = next(iter(found.values()))["chance"]
    rows.append(["any", "chance", chance["r1"], chance["r5"], chance["r10"], chance["median_rank"]])
    show("Flickr8k dev, 1,000 pictures x 5 captions", ["queries", "encoder", "R@1", "R@5", "R@10", "median"], rows)
    return found


def part_zeroshot(data: Path, compared: dict[str, ns.Encoder]) -> dict[str, object]:
    found = {name: zeroshot.measure(data, encoder) for name, encoder in compared.items()}
    rows: list[list[object]] = []
    for language in ("en", "zh"):
        for name, figures in found.items():
            f = figures[language]
            rows.append([language, name, f["all"]["top1"], f["all"]["top5"], f["named"]["top1"], f["new"]["top1"]])
    rows.append(["en", "recipe E3 (250 class pictures) + class block", RECIPE["objects51"], "", 0.69, 0.20])
    rows.append(["any", "chance", 1 / 51, 5 / 51, 1 / 51, 1 / 51])
    show(
        "objects51, 1,020 pictures of 51 categories",
        ["language", "encoder", "top-1", "top-5", "named top-1", "new top-1"],
        rows,
    )
    return found


def part_nouns(data: Path, compared: dict[str, ns.Encoder]) -> dict[str, object]:
    del data
    name, encoder = next(iter(compared.items()))
    found = zeroshot.nouns(encoder)
    rows: list[list[object]] = [
        ["80 COCO names", found["coco80"], 1 / 80],
        ["500 held-out nouns", found["held_out_500"], 1 / 500],
    ]
    show(f"Chinese nouns on their English names ({name})", ["list", "right", "chance"], rows)
    return {name: found}


def part_relevance(data: Path, compared: dict[str, ns.Encoder]) -> dict[str, object]:
    name, encoder = next(iter(compared.items()))
    found = {
        "captions_against_names": relevance.captions_against_names(data, encoder),
        "one_left_out": relevance.one_left_out(data, encoder),
    }
    curve.draw(RESULTS.parent.parent / "docs" / "images" / "relevance.svg", found)
    rows: list[list[object]] = []
    for test, by_language in found.items():
        for language, f in by_language.items():
            rows.append(
                [
                    f"{test.replace('_', ' ')}, {language}",
                    f["present"],
                    f["right_in_ten"],
                    f["absent"],
                    f["false_match"],
                    f["kept"],
                    f["kept_at_0.1"],
                ]
            )
    header = ["test", "present", "right in ten", "absent", "false match", "kept", "kept at .10"]
    show(f'"Nothing matches" at the default threshold ({name})', header, rows)
    return {name: found}


def part_carried(data: Path, compared: dict[str, ns.Encoder]) -> dict[str, object]:
    del data
    found = {name: carried.measure(encoder) for name, encoder in compared.items()}
    rows: list[list[object]] = []
    for language in ("en", "zh"):
        for name, figures in found.items():
            f = figures[language]
            rows.append([f"{language} text to image", name, f["r1"], f["r5"], f["median_rank"]])
    rows.append(["any", "chance", 1 / 21, 5 / 21, 11.0])
    show("21 photographs that packages carry, 2 captions each", ["queries", "encoder", "R@1", "R@5", "median"], rows)
    return found


def part_detection(data: Path, compared: dict[str, ns.Encoder]) -> dict[str, object]:
    detector = ns.Detector("nano")
    finders = {"int8 (shipped)": detection.by_name(detector)}
    full = compared.get("fp32")
    if isinstance(full, Full) and (graph := full.graph.with_name("detect.fp32.onnx")).is_file():
        finders["fp32"] = detection.by_name(detection.FullDetector(graph))
    if (peer := data.parent / detection.PEER).is_file():
        finders["YOLOX-nano (peer)"] = detection.Yolox(peer)
    found: dict[str, object] = {name: detection.measure(data, finders, name) for name in detection.SETS}
    rows: list[list[object]] = [
        [name, finder, f["ap50"], f["person"], f["car"], f["pictures"]]
        for name in detection.SETS
        for finder, f in found[name].items()
    ]
    show("AP50, mean over the classes that a set has", ["set", "detector", "AP50", "person", "car", "pictures"], rows)
    found["recall_by_size"] = detection.recall_by_size(data, detector)
    show(
        "Found at the default threshold on dev, by a thing's longer side in parts of the picture's",
        ["side", "things", "found"],
        [[name, f["things"], f["found"]] for name, f in found["recall_by_size"].items()],
    )
    found["words"] = detection.words(detector)
    show(
        "Words outside the lexicon",
        ["half", "near, judged rightly", "near, judged wrongly", "uncovered, judged", "compounds, judged"],
        [
            [name, f["near_judged_right"], f["near_judged_wrong"], f["uncovered_judged"], f["compounds_judged"]]
            for name, f in found["words"].items()
        ],
    )
    return found


def part_watching(data: Path, compared: dict[str, ns.Encoder]) -> dict[str, object]:
    del compared
    found = watching.measure(data)
    rows: list[list[object]] = [
        [f"{clip}: {line}", way, f["true"], f["found"], f["invented"], figures["appeared"], figures["frames_per_s"]]
        for clip, ways in found.items()
        for way, figures in ways.items()
        for line, f in figures["lines"].items()
    ]
    header = ["clip and line", "detector", "crossings", "found", "invented", "appeared", "frames/s"]
    show("Crossings read off the clips by eye, found within 6 frames", header, rows)
    return found


def part_agent(data: Path, compared: dict[str, ns.Encoder]) -> dict[str, object]:
    del data, compared
    found = agent.measure()
    show(
        "Written commands planned exactly, tool and arguments",
        ["list", "commands", "first run", "now", "en", "zh", "wrong though sure"],
        [
            [
                name,
                f["commands"],
                f["right_on_first_run"],
                f["right"],
                f["right_en"],
                f["right_zh"],
                f["wrong_at_confidence_0.7"],
            ]
            for name, f in found["plans"].items()
        ],
    )
    f = found["answers"]
    show(
        "Questions over eight photographs",
        ["questions", "right", "median ms"],
        [[f["questions"], f["right"], f["median_ms"]]],
    )
    return found


def part_captions(data: Path, compared: dict[str, ns.Encoder]) -> dict[str, object]:
    del compared
    peers = captions.Remembered(data)
    found: dict[str, object] = {**captions.measure(data, peers), "inventions": captions.inventions(data, peers)}
    rows: list[list[object]] = [
        [language, name, f["cider"], captions.interval(f), f["bleu4"], f["kinds"], f["words"]]
        for language in captions.LANGUAGES
        for name, f in found[language].items()
        if isinstance(f, dict) and "cider" in f
    ]
    header = ["language", "who", "CIDEr-D", "95 %", "BLEU-4", "different", "length"]
    show("Captions of Flickr8k dev (1,000 pictures, 5 references; Chinese by characters)", header, rows)
    sure = [
        [language, *found[language]["confidence"].values(), found[language]["median_ms"]]
        for language in captions.LANGUAGES
    ]
    header = ["language", "rank correlation", "quarter 1", "2", "3", "4", "above .5", "of these better", "median ms"]
    show("Does a surer caption agree more (CIDEr-D by quarter of confidence)", header, sure)
    show(
        "288 COCO photographs (detection/dev): of what English captions name, how much is boxed there",
        ["who", "say people", "right", "other things", "right", "pictures with a right one"],
        [
            [name, f["with_people"], f["people_there"], f["things"], f["things_there"], f["pictures_rightly_named"]]
            for name, f in found["inventions"].items()
        ],
    )
    return found


PARTS: dict[str, Callable[[Path, dict[str, ns.Encoder]], dict[str, object]]] = {
    "retrieval": part_retrieval,
    "zeroshot": part_zeroshot,
    "nouns": part_nouns,
    "relevance": part_relevance,
    "carried": part_carried,
    "detection": part_detection,
    "watching": part_watching,
    "agent": part_agent,
    "captions": part_captions,
}


def main() -> int:
    """Run the asked parts; a missing set is named and its part left out."""
    parser = argparse.ArgumentParser(prog="eval", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; may be repeated")
    parser.add_argument("--fp32", type=Path, help="the picture tower in FP32, WORK/image.fp32.onnx after `make train`")
    args = parser.parse_args()
    compared, missing = encoders(args.fp32), 0
    RESULTS.mkdir(parents=True, exist_ok=True)
    for part in args.part or PARTS:
        try:
            found = PARTS[part](args.data, compared)
        except sets.MissingSetError as error:
            print(f"{part}: left out; {error}", file=sys.stderr)
            missing += 1
            continue
        (RESULTS / f"eval-{part}.json").write_text(
            json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf8"
        )
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
