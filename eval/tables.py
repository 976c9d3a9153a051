"""Prints what the parts found as tables, plain in a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

Figures = Mapping[str, Any]


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print one table."""
    table = Table(title=title, title_justify="left")
    for name in header:
        table.add_column(name, justify="left" if name == header[0] else "right")
    for row in rows:
        table.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row))
    Console(width=110).print(table)


def turned(title: str, found: Mapping[str, Figures]) -> None:
    """Print figures of several things, one a column."""
    names = dict.fromkeys(name for figures in found.values() for name in figures)
    show(
        title,
        ["", *found],
        [[name.replace("_", " "), *(figures.get(name, "") for figures in found.values())] for name in names],
    )


def detection(found: Figures) -> None:
    """AP on three sets, what the default thresholds give, and words and routes."""
    show(
        "Average precision, mean over the classes that a set has",
        ["set", "detector", "AP50", "AP", "person", "car", "pictures"],
        [
            [name, finder, f["ap50"], f["ap"], f.get("person", ""), f.get("car", ""), f["pictures"]]
            for name, finders in found["sets"].items()
            for finder, f in finders.items()
        ],
    )
    default(found["at_default"], "dev")
    show(
        "Found at the default threshold on dev, by a thing's longer side in parts of the picture's",
        ["side", "things", "found"],
        [[name, f["things"], f["found"]] for name, f in found["at_default"]["recall_by_size"].items()],
    )
    words = found["words"]
    for part, title in (("words", "as shipped"), ("words_hidden", "the unseen half hidden from the lexicon")):
        show(
            f"AP50 of words on dev, {title} ({found[part]['unjudged']} labels not judged: 0)",
            ["words", "how many", "AP50", "classes", "AP50 by class"],
            [
                [name, f["words"], f["ap50"], f["classes"], f["ap50_by_class"]]
                for name, f in found[part]["words"].items()
            ],
        )
    show(
        "All words by route: default threshold, and is a score the chance to be right",
        ["route", "labels", "boxes", "precision", "recall", "mean gap of score and share right"],
        [
            [route, f["labels"], f["given"], f["precision"], f["recall"], f["calibration_gap"]]
            for route, f in words["routes"].items()
        ],
    )
    show(
        "Things that are in no picture of dev, at the default threshold",
        ["language", "labels", "boxes a picture", "boxes a label", "pictures with one"],
        [
            [language, f["labels_a_picture"], f["boxes_a_picture"], f["boxes_a_label"], f["pictures_with_one"]]
            for language, f in found["absent"].items()
        ],
    )


def default(found: Figures, which: str) -> None:
    """Precision and recall for somebody who asks for COCO names and gives no threshold."""
    show(
        f"COCO names at the default threshold on {which}",
        ["boxes of", "things", "boxes", "precision", "recall"],
        [[name, f["wanted"], f["given"], f["precision"], f["recall"]] for name, f in found["boxes"].items()]
        + [["names that are not there", 0, f"{found['absent_names']['boxes_a_picture']} a picture", "", ""]],
    )


def words(found: Figures) -> None:
    """How words are judged, with the whole lexicon and with the unseen half of the words hidden from it."""
    for halves, title in (("halves", "as shipped"), ("halves_hidden", "the unseen half hidden from the lexicon")):
        show(
            f"How the words of eval/names/coco_words.json are judged, without a picture, {title}",
            ["half", "words", "in the lexicon", "right class", "wrong class", "routes"],
            [
                [
                    name,
                    f["words"],
                    f["in_lexicon"],
                    f["right_class"],
                    f["wrong_class"],
                    ", ".join(f"{route} {count}" for route, count in f["routes"].items()),
                ]
                for name, f in found[halves].items()
            ],
        )
    show(
        "Words outside the lexicon (eval/names/near_words.json)",
        ["half", "near, judged rightly", "near, judged wrongly", "uncovered, judged", "compounds, judged"],
        [
            [name, f["near_judged_right"], f["near_judged_wrong"], f["uncovered_judged"], f["compounds_judged"]]
            for name, f in found["near"].items()
        ],
    )


def pointing(found: Figures) -> None:
    """Pointing and boxes on composites."""
    points, boxes = found["pointing"], found["boxes"]
    show(
        f"objects51 outside COCO, {points['pictures']} pictures: the named thing above ten others "
        f"(chance {points['chance']})",
        [
            "language",
            "right",
            "times chance",
            "names the trunk knows",
            "others",
            "default: named",
            "default: others",
            "routes",
        ],
        [
            [
                language,
                points[language]["right"],
                points[language]["times_chance"],
                points[language]["known"],
                points[language]["new"],
                points[language]["named_at_default"],
                points[language]["others_at_default"],
                ", ".join(f"{route} {count}" for route, count in points[language]["routes"].items()),
            ]
            for language in ("en", "zh")
        ],
    )
    show(
        f"The best box on {boxes['pictures']} composites (the whole picture shares {boxes['whole_picture_overlap']})",
        ["asked for", "mean overlap", "at least .5", "at least .3", "centre inside"],
        [
            [name, f["mean_overlap"], f["overlap_of_half"], f["overlap_of_0.3"], f["centre_inside"]]
            for name in ("named", "another")
            for f in [boxes[name]]
        ],
    )


def captions(found: Figures) -> None:
    """Captions beside peers that only remember, and beside people."""
    spoken = [
        (language, name, f)
        for language in ("en", "zh")
        for name, f in found[language].items()
        if isinstance(f, dict) and "cider" in f
    ]
    show(
        "Captions of Flickr8k dev (5 references; English by words, Chinese by characters)",
        ["language", "who", "CIDEr-D", "95 %", "BLEU-4", "different", "length"],
        [[language, name, f["cider"], interval(f), f["bleu4"], f["kinds"], f["words"]] for language, name, f in spoken],
    )
    show(
        "Nouns, repetition, and the picture by the search model",
        ["language", "who", "noun recall", "noun precision", "no 3-gram twice", "own picture first", "in ten"],
        [
            [
                language,
                name,
                f["noun_recall"],
                f["noun_precision"],
                f["repeat_no_3gram"],
                f["own_picture_in_1"],
                f["own_picture_in_10"],
            ]
            for language, name, f in spoken
        ],
    )
    show(
        "Does a surer caption agree more (CIDEr-D by quarter of confidence)",
        ["language", "rank correlation", "quarter 1", "2", "3", "4", "above .5", "of these better", "median ms"],
        [
            [language, *found[language]["confidence"].values(), found[language]["median_ms"]]
            for language in ("en", "zh")
        ],
    )
    show(
        "COCO photographs (detection/dev): of what English captions name, how much is boxed there",
        ["who", "say people", "right", "other things", "right", "pictures with a right one"],
        [
            [name, f["with_people"], f["people_there"], f["things"], f["things_there"], f["pictures_rightly_named"]]
            for name, f in found["inventions"].items()
        ],
    )


def carried(found: Figures) -> None:
    """Captions of the photographs that packages carry."""
    show(
        "Captions of 21 photographs that packages carry (2 references)",
        ["language", "CIDEr-D", "95 %", "BLEU-4", "noun recall", "noun precision"],
        [
            [language, f["cider"], interval(f), f["bleu4"], f["noun_recall"], f["noun_precision"]]
            for language, f in found.items()
        ],
    )


def interval(figures: Figures) -> str:
    """The interval of CIDEr-D in words."""
    return f"{figures['cider_low']:.3f} to {figures['cider_high']:.3f}"
