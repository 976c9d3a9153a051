"""Writes `sdk/nearsight/detect/taxonomy.tsv`: what WordNet knows to be a kind of each of the detector's classes.

`python -m training.taxonomy` from `models/`, with Debian's `wordnet-base`. Nobody chose words: a noun is listed with
the nearest class above the first, commonest sense that WordNet gives it, unless it is a verb or an adjective as well
("delicious", an apple), whether the lexicon has it or not. Of people no kinds are listed, nor of giraffes, of which
WordNet has one, the okapi.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from nearsight.detect.lexicon import normalised
from training.words import WordNet

TARGET = Path(__file__).parents[2] / "sdk" / "nearsight" / "detect" / "taxonomy.tsv"
# Class -> the synsets that it is, as their offsets in WordNet 3.0's data.noun.
ROOTS = {
    "bicycle": (2834778,),
    "car": (2958343,),
    "motorcycle": (3790512,),
    "airplane": (2691156,),
    "bus": (2924116,),
    "train": (4468005, 3684823, 4335435),  # locomotives, trams
    "truck": (4490091,),
    "boat": (2858304, 4530566),  # vessels
    "traffic light": (6874185,),
    "fire hydrant": (3346898,),
    "parking meter": (3891332,),
    "bench": (2828884,),
    "bird": (1503061,),
    "cat": (2121808,),  # domestic ones
    "dog": (2084071,),
    "horse": (2374451,),
    "sheep": (2411705,),
    "cow": (2402425,),
    "elephant": (2503517,),
    "bear": (2131653,),
    "zebra": (2391049,),
    "backpack": (2769748,),
    "umbrella": (4507155,),
    "handbag": (2774152,),
    "tie": (3815615,),
    "suitcase": (2773838,),
    "frisbee": (3397947,),
    "skis": (4228054,),
    "sports ball": (2778669,),
    "kite": (3621473,),
    "skateboard": (4225987,),
    "surfboard": (4363559,),
    "tennis racket": (4039381,),
    "bottle": (2876657,),
    "wine glass": (4592099,),
    "cup": (3147509, 3797390, 3438257),  # mugs, drinking glasses
    "fork": (3383948,),
    "knife": (3623556, 3624134),
    "spoon": (4284002,),
    "bowl": (2881193, 2880940),
    "banana": (7753592,),
    "apple": (7739125,),
    "sandwich": (7695965,),
    "orange": (7747607, 7748574),  # mandarins
    "broccoli": (7714990,),
    "carrot": (7730207,),
    "hot dog": (7697537, 7676602),
    "pizza": (7873807,),
    "donut": (7639069,),
    "cake": (7628870,),
    "chair": (3001627,),
    "couch": (4256520,),
    "potted plant": (13083023,),
    "bed": (2818832,),
    "dining table": (3201208,),
    "toilet": (4446521,),
    "tv": (4405907,),
    "laptop": (3642806,),
    "mouse": (3793489,),
    "remote": (4074963,),
    "keyboard": (3085013,),
    "cell phone": (2992529,),
    "microwave": (3761084,),
    "oven": (3862676,),
    "toaster": (4442312,),
    "sink": (4223580, 4553703),  # washbasins
    "refrigerator": (4070727,),
    "book": (2870092, 6410904),
    "clock": (3046257,),
    "vase": (4522168,),
    "scissors": (4148054,),
    "teddy bear": (4399382,),
    "hair drier": (3483316,),
    "toothbrush": (4453156,),
}


def class_of(net: WordNet, offset: int, classes: dict[int, str]) -> str | None:
    """The class that a synset is or is a kind of, the nearest one up its first hypernyms."""
    at: int | None = offset
    while at is not None:
        if at in classes:
            return classes[at]
        at = next(iter(net.parents[at]), None)
    return None


def kinds() -> Iterator[tuple[str, str]]:
    """Every (class, noun)."""
    net = WordNet()
    classes = {offset: name for name, offsets in ROOTS.items() for offset in offsets}
    missing = [offset for offset in classes if offset not in net.lemmas]
    if missing:
        raise SystemExit(f"these are no synsets of WordNet 3.0: {missing}")
    other = {word for part in ("verb", "adj", "adv") for word in net.words(part)}
    for lemma, offset in net.first_senses():
        found = class_of(net, offset, classes)
        if found and lemma not in other:
            yield found, normalised(lemma)


def main() -> None:
    """Write the page."""
    listed = defaultdict[str, set[str]](set)
    for name, word in kinds():
        listed[name].add(word)
    lines = [f"{name}\t{'|'.join(sorted(words))}" for name, words in sorted(listed.items())]
    head = "# Kinds of the classes out of WordNet 3.0 (licence: THIRD_PARTY.md); by models/training/taxonomy.py."
    TARGET.write_text("\n".join([head, *lines]) + "\n", encoding="utf8")
    print(f"{sum(map(len, listed.values()))} nouns, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
