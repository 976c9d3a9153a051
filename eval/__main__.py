"""`python -m eval --data DATA`: measures what the embedded models reach, prints tables, writes JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eval import (
    agent,
    captions,
    carried,
    curve,
    detection,
    full,
    grounding,
    matching,
    peers,
    pictures,
    pointing,
    relevance,
    retrieval,
    reuse,
    routes,
    sets,
    tables,
    watching,
    words,
    zeroshot,
)
from eval.tables import show

import nearsight as ns

RESULTS = Path(__file__).parent.parent / "bench" / "results"
# Quoted, not run here: the recipe E3 with the class block, Flickr8k dev and objects51 (the table of nano_recipe.md).
RECIPE = {
    "en": {"r1": 0.212, "r5": 0.482, "r10": 0.621},
    "zh": {"r1": 0.112, "r5": 0.318, "r10": 0.447},
    "objects51": 0.44,
}


def encoders(fp32: Path | None) -> dict[str, ns.Encoder]:
    """What is compared: as shipped (INT8 pictures, 4-bit texts), FP16 files, and FP32 if its file is at hand."""
    found: dict[str, ns.Encoder] = {
        "int8 (shipped)": ns.Encoder("nano", precision="int8"),
        "fp16": ns.Encoder("nano", precision="fp16"),
    }
    if fp32 is not None:
        found["fp32"] = full.FullEncoder(fp32)
    return found


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
        "captions_against_sentences": relevance.captions_against_sentences(data, encoder),
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
    found: dict[str, Any] = {name: carried.measure(encoder) for name, encoder in compared.items()}
    rows: list[list[object]] = []
    for language in ("en", "zh"):
        for name, figures in found.items():
            f = figures[language]
            rows.append([f"{language} text to image", name, f["r1"], f["r5"], f["median_rank"]])
    rows.append(["any", "chance", 1 / 21, 5 / 21, 11.0])
    show("21 photographs that packages carry, 2 captions each", ["queries", "encoder", "R@1", "R@5", "median"], rows)
    detector, captioner = ns.Detector("nano"), ns.Captioner("nano")
    found |= {
        "detected": detection.at_default(carried.boxed(list(detector.classes)), detector),
        "captioned": carried.captioned(captioner),
    }
    tables.default(found["detected"], "photographs that packages carry")
    tables.carried(found["captioned"])
    return found


def part_detection(data: Path, compared: dict[str, ns.Encoder], most: int | None = None) -> dict[str, object]:
    detector = ns.Detector("nano")
    finders = {"int8 (shipped)": detection.by_name(detector)}
    if (graph := beside(compared, "detect/detect.fp32.onnx")) is not None:
        finders["fp32"] = detection.by_name(full.detector(graph))
    for name, peer in peers.there(data):
        if isinstance(peer, str):
            print(f"{name}: left out; {peer}", file=sys.stderr)
        else:
            finders[f"{name} (peer)"] = peer
    shown = {name: detection.read(data, name, most) for name in detection.SETS}
    found: dict[str, object] = {
        "sets": {
            name: {who: detection.measure(photographs, find) for who, find in finders.items()}
            for name, photographs in shown.items()
        },
        "at_default": detection.at_default(shown["dev"], detector),
        "words": routes.measure(shown["dev"], detector),
        "absent": routes.absent(shown["dev"], detector),
    }
    with words.hidden() as without:
        found["words_hidden"] = routes.measure(shown["dev"], without)
    tables.detection(found)
    return found


def part_words(data: Path, compared: dict[str, ns.Encoder]) -> dict[str, object]:
    del data, compared
    detector, asked = ns.Detector("nano"), words.every()
    found: dict[str, object] = {"halves": words.judged(detector, asked), "near": words.near(detector)}
    with words.hidden() as without:
        found["halves_hidden"] = words.judged(without, asked)
    tables.words(found)
    return found


def part_pointing(data: Path, compared: dict[str, ns.Encoder], most: int | None = None) -> dict[str, object]:
    del compared
    found = pointing.measure(data, ns.Detector("nano"), most)
    tables.pointing(found)
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


def part_captions(data: Path, compared: dict[str, ns.Encoder], most: int | None = None) -> dict[str, object]:
    remembering, speaker = captions.Remembered(data), ns.Captioner("nano")
    speakers = {"nano (shipped)": speaker}
    if (step := beside(compared, "caption/caption.step.fp32.onnx")) is not None:
        speakers["nano in fp32"] = full.captioner(step.parent, step.parent.parent / "image.fp32.onnx")
    found: dict[str, object] = {
        **captions.measure(data, remembering, speakers, most),
        "inventions": captions.inventions(data, remembering, speaker, most),
    }
    tables.captions(found)
    return found


def part_grounding(data: Path, compared: dict[str, ns.Encoder]) -> dict[str, object]:
    del compared
    found = grounding.measure(data)
    tables.turned("Nouns of captions marked as seen or unsupported, against people and boxes", found)
    return dict(found)


def part_reuse(data: Path, compared: dict[str, ns.Encoder]) -> dict[str, object]:
    del compared
    found = reuse.measure(data)
    for name, figures in found.items():
        tables.turned(f"Captions said again, {name}: by the cosine from which a frame looks the same", figures)
    return dict(found)


def part_matching(data: Path, compared: dict[str, ns.Encoder]) -> dict[str, object]:
    del compared
    found = matching.measure(data)
    tables.turned("Does `look(...).matches` say yes: to a picture's own caption, and to ten others'", found)
    return dict(found)


def part_pictures(data: Path, compared: dict[str, ns.Encoder]) -> dict[str, object]:
    del data, compared
    found = pictures.measure()
    tables.turned("Successes and failures as pictures, docs/cards", found)
    return dict(found)


def beside(compared: dict[str, ns.Encoder], name: str) -> Path | None:
    """A file of training in FP32, from the folder that holds the picture tower's, if both are at hand."""
    tower = compared.get("fp32")
    if not isinstance(tower, full.FullEncoder):
        return None
    path = tower.graph.with_name(name)
    return path if path.is_file() else None


PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "retrieval": part_retrieval,
    "zeroshot": part_zeroshot,
    "nouns": part_nouns,
    "relevance": part_relevance,
    "carried": part_carried,
    "detection": part_detection,
    "words": part_words,
    "pointing": part_pointing,
    "watching": part_watching,
    "agent": part_agent,
    "captions": part_captions,
    "grounding": part_grounding,
    "reuse": part_reuse,
    "matching": part_matching,
    "pictures": part_pictures,
}
LONG = ("detection", "pointing", "captions")


def main() -> int:
    """Run the asked parts; a missing set is named and its part left out."""
    parser = argparse.ArgumentParser(prog="eval", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; may be repeated")
    parser.add_argument("--fp32", type=Path, help="the picture tower in FP32, WORK/image.fp32.onnx after `make train`")
    parser.add_argument(
        "--most",
        type=int,
        help=f"only so many pictures of a set, or of a name, in {', '.join(LONG)}: a look, of which no JSON is kept",
    )
    args = parser.parse_args()
    compared, missing = encoders(args.fp32), 0
    RESULTS.mkdir(parents=True, exist_ok=True)
    for part in args.part or PARTS:
        try:
            found = PARTS[part](args.data, compared, **({"most": args.most} if part in LONG else {}))
        except sets.MissingSetError as error:
            print(f"{part}: left out; {error}", file=sys.stderr)
            missing += 1
            continue
        if args.most and part in LONG:
            continue
        (RESULTS / f"eval-{part}.json").write_text(
            json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf8"
        )
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
