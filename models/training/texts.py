"""Every training text as token ids, with the states of the tower's frozen lower layers cached."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece
import torch

from training import data, e5, words

log = logging.getLogger("training")
LIKELY_ASCII = 20_000  # kept for training; the file ships fewer, see export.py
LONGEST = 40  # tokens, the specials included
BUCKET_TOKENS = 8192


@dataclass(slots=True)
class Texts:
    """Texts with their ids and cached states, both ragged: text i owns rows starts[i] to starts[i + 1]."""

    index: dict[str, int]
    ids: np.ndarray  # (tokens,) int32
    starts: np.ndarray  # (texts + 1,)
    states: np.ndarray  # (tokens, width) float16

    def batch(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Padded states (n, t, width) float32 and the mask (n, t) of these texts."""
        rows = np.array([self.index[text] for text in texts])
        lengths = self.starts[rows + 1] - self.starts[rows]
        states = np.zeros((len(rows), lengths.max(), self.states.shape[1]), np.float16)
        for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            states[place, :length] = self.states[self.starts[row] : self.starts[row] + length]
        mask = np.arange(lengths.max())[None] < lengths[:, None]
        return torch.from_numpy(states).float(), torch.from_numpy(mask)


def photo_of(name: str) -> str:
    """The template that names are trained and asked with."""
    return f"a photo of a {name}"


def coco_names(folder: Path) -> list[str]:
    """The 80 names, from the boxes' own list."""
    names: list[str] = json.loads((folder / "detection" / "train.json").read_text(encoding="utf8"))["classes"]
    return names


def keep(
    source: e5.Source, tokenizer: sentencepiece.SentencePieceProcessor, texts: list[str], likely: int
) -> list[int]:
    """Ids of the pieces to keep: specials, all with Han characters, Latin and punctuation, likely ASCII, all in use."""
    kept = set(range(e5.SPECIALS))
    ascii_ids = []
    for number, piece in enumerate(source.pieces):
        bare = piece.replace("▁", "")
        if any("\u3400" <= c <= "\u9fff" for c in bare) or (
            len(bare) <= 1 and all(c < "\u0250" or "\u2000" <= c < "\u2070" or "\u3000" <= c < "\u3040" for c in bare)
        ):
            kept.add(number)
        elif bare.isascii():
            ascii_ids.append(number)
    ascii_ids.sort(key=lambda number: -source.piece_scores[number])
    kept.update(ascii_ids[:likely])
    for ids in tokenizer.encode(texts):
        kept.update(ids)
    return sorted(kept)


def encode(tokenizer: sentencepiece.SentencePieceProcessor, text: str, longest: int = LONGEST) -> list[int]:
    """Ids with <s> and </s>, cut to the longest length."""
    return [e5.BOS, *tokenizer.encode(e5.PREFIX + text)[: longest - 2], e5.EOS]


def lower_states(tower: e5.Tower, rows: list[list[int]], layers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run the frozen layers over ragged rows, sorted by length; returns ids, starts and states."""
    lengths = np.array([len(row) for row in rows])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    states = np.zeros((starts[-1], tower.word.weight.shape[1]), np.float16)
    order = np.argsort(lengths, kind="stable")
    place, reported = 0, 0
    while place < len(order):
        size = max(1, BUCKET_TOKENS // lengths[order[min(place + 256, len(order) - 1)]])
        chunk = order[place : place + size]
        longest = lengths[chunk].max()
        ids = np.full((len(chunk), longest), e5.PAD, np.int64)
        for line, row in enumerate(chunk):
            ids[line, : lengths[row]] = rows[row]
        mask = torch.from_numpy(np.arange(longest)[None] < lengths[chunk][:, None])
        with torch.inference_mode():
            out = tower.states(tower.embed(torch.from_numpy(ids)), mask, 0, layers).half().numpy()
        for line, row in enumerate(chunk):
            states[starts[row] : starts[row + 1]] = out[line, : lengths[row]]
        place += size
        if place - reported > 10_000:
            log.info("text states: %d of %d", place, len(order))
            reported = place
    return np.concatenate([np.array(row, np.int32) for row in rows]), starts, states


def training_texts(folder: Path) -> list[str]:
    """All texts that training may ask for, without repetition."""
    captions = data.read_captions(folder / "flickr8k_train_captions.jsonl")
    columns = (captions.en, captions.zh, captions.zh_of_en, captions.zh_of_en_2)
    texts = [text for column in columns for row in column for text in row]
    pairs = words.dictionary()
    texts += [word for pair in pairs for word in pair]
    texts += [photo_of(gloss) for _, gloss in pairs]
    classes = words.class_names()
    names = [name for row in classes for name in (*row["names"], *row["broader"])]
    names += coco_names(folder) + clip_names(folder)
    texts += names + [photo_of(name) for name in names]
    return list(dict.fromkeys(texts))


def clip_names(folder: Path) -> list[str]:
    """LVIS's and Objects365's names, in words."""
    names = json.loads((folder.parent / "weights" / "clip_text" / "names.json").read_text(encoding="utf8"))
    return [tidy(name) for name in (*names["lvis"], *names["objects365"])]


def tidy(name: str) -> str:
    """`Traffic_light_(signal)` -> `traffic light`."""
    return name.split("(", maxsplit=1)[0].replace("_", " ").replace("/", " or ").strip().lower()


def load(folder: Path, work: Path, layers: int) -> tuple[Texts, e5.Tower, list[int]]:
    """Read the cached states, making them first if they are not there; also the tower and the kept pieces."""
    source = e5.read(e5.source_path())
    target = work / f"texts-{layers}"
    if not (target / "texts.json").exists():
        target.mkdir(parents=True, exist_ok=True)
        texts = training_texts(folder)
        full = sentencepiece.SentencePieceProcessor(model_proto=e5.vocabulary(source))
        kept = keep(source, full, [e5.PREFIX + text for text in texts], LIKELY_ASCII)
        (work / "keep.json").write_text(json.dumps(kept), encoding="utf8")
        (work / "nano.vocab.spm").write_bytes(e5.vocabulary(source, kept))
        tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(work / "nano.vocab.spm"))
        log.info("%d texts, %d pieces kept", len(texts), len(kept))
        ids, starts, states = lower_states(e5.Tower(source, kept), [encode(tokenizer, text) for text in texts], layers)
        np.save(target / "ids.npy", ids), np.save(target / "starts.npy", starts), np.save(target / "states.npy", states)
        (target / "texts.json").write_text(json.dumps(texts, ensure_ascii=False), encoding="utf8")
    kept = json.loads((work / "keep.json").read_text(encoding="utf8"))
    texts = json.loads((target / "texts.json").read_text(encoding="utf8"))
    cached = Texts(
        index={text: place for place, text in enumerate(texts)},
        ids=np.load(target / "ids.npy"),
        starts=np.load(target / "starts.npy"),
        states=np.load(target / "states.npy", mmap_mode="r"),
    )
    return cached, e5.Tower(source, kept), kept
