"""Captions as token ids: what is written is tidied, and cut into pieces of a vocabulary made for both languages."""

from __future__ import annotations

import json
import logging
import re
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece

from training import data
from training.caption import boxed

log = logging.getLogger("training")
PIECES = 5000
LONGEST = 24  # ids of one caption with its start and its end; the longest twentieth of them is left out
CUT = "|"
NAMES = Path(__file__).parents[3] / "eval" / "names"
PAD, UNKNOWN, END = 0, 1, 2
# The first token names the language, and how it came about: machine translations teach words, but not their style.
STARTS = ("<en>", "<zh>", "<zh-translated>")
EN, ZH, TRANSLATED = range(3, 6)


def tidy_english(text: str) -> str:
    """Lower case, no punctuation but hyphens and apostrophes within words."""
    text = unicodedata.normalize("NFKC", text).lower().replace(" 's", "'s").replace("`", "'")
    return " ".join(word.strip("-'") for word in re.findall(r"[a-z0-9'-]+", text) if word.strip("-'"))


def tidy_chinese(text: str) -> str:
    """No blanks and no punctuation but commas between clauses."""
    text = unicodedata.normalize("NFKC", text)
    clauses = re.split("[,;、。!?]", re.sub(r"\s", "", text))
    return "，".join(kept for clause in clauses if (kept := re.sub(r"[^\w-]", "", clause)))


@dataclass(slots=True)
class Captions:
    """Ids of every caption: row i of a start's lists belongs to picture i, the boxed pictures behind all others."""

    ids: dict[int, list[list[list[int]]]]
    tokenizer: sentencepiece.SentencePieceProcessor

    def rows(self, start: int, picture: int) -> list[list[int]]:
        """The captions of one picture that begin with this start."""
        return self.ids[start][picture]

    def text(self, ids: list[int]) -> str:
        """What generated ids say."""
        return str(self.tokenizer.decode([i for i in ids if i > TRANSLATED])).strip()


def _train_vocabulary(texts: list[str], target: Path) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf8") as corpus:
        # Chinese is cut into characters: longer pieces would be whole phrases that only Flickr8k repeats.
        cut = re.sub(r"([^\x00-\u2fff])", rf"{CUT}\1{CUT}", "\n".join(texts)).replace(CUT * 2, CUT)
        corpus.write(cut), corpus.flush()
        sentencepiece.SentencePieceTrainer.train(
            input=corpus.name,
            model_prefix=str(target.with_suffix("")),
            model_type="unigram",
            vocab_size=PIECES,
            character_coverage=0.9995,
            normalization_rule_name="identity",
            add_dummy_prefix=True,
            pad_id=PAD,
            unk_id=UNKNOWN,
            eos_id=END,
            bos_id=-1,
            control_symbols=list(STARTS),
            pretokenization_delimiter=CUT,
            num_threads=2,
            minloglevel=2,
        )
    target.with_suffix(".model").rename(target)


def _cut(tokenizer: sentencepiece.SentencePieceProcessor, start: int, row: list[str]) -> list[list[int]]:
    """The captions that are short enough; if none is, the first one without its tail and its end."""
    found = [[start, *ids, END] for ids in tokenizer.encode(row) if ids]
    return [ids for ids in found if len(ids) <= LONGEST] or [ids[:LONGEST] for ids in found[:1]]


def _words(tokenizer: sentencepiece.SentencePieceProcessor) -> dict[str, str]:
    """COCO's names in Chinese, those that can be said."""
    names: dict[str, str] = json.loads((NAMES / "coco.json").read_text(encoding="utf8"))
    return {name: word for name, word in names.items() if UNKNOWN not in tokenizer.encode(word)}


def load(folder: Path, work: Path, boxed_names: list[str]) -> Captions:
    """Read, tidy and cut the training captions; the vocabulary is made first if it is not there."""
    read = data.read_captions(folder / "flickr8k_train_captions.jsonl")
    columns = {
        EN: [[tidy_english(text) for text in row] for row in read.en],
        ZH: [[tidy_chinese(text) for text in row] for row in read.zh],
        TRANSLATED: [[tidy_chinese(text) for text in row] for row in read.zh_of_en],
    }
    vocabulary = work / "vocabulary.spm"
    if not vocabulary.exists():
        # What may be said is what people wrote; the translations are cut into the same pieces.
        _train_vocabulary([text for start in (EN, ZH) for row in columns[start] for text in row], vocabulary)
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary))
    en, zh = boxed.captions(folder, boxed_names, _words(tokenizer))
    columns = {EN: columns[EN] + en, ZH: columns[ZH] + zh, TRANSLATED: columns[TRANSLATED] + [[] for _ in en]}
    ids = {start: [_cut(tokenizer, start, row) for row in rows] for start, rows in columns.items()}
    lengths = np.concatenate([[len(one) for one in row] for row in ids[EN] + ids[ZH] if row])
    log.info("captions: mean %.1f ids, 99 %% below %d", lengths.mean(), np.percentile(lengths, 99))
    return Captions(ids=ids, tokenizer=tokenizer)
