"""The development figures that every change is judged by: captions, unseen categories and Chinese nouns together."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece
import torch

from training import data, e5, features, model, texts, words

NAMES = words.HERE.parent.parent / "eval" / "names"


@dataclass(slots=True)
class Judge:
    """Cached development pictures and texts."""

    pictures: features.Features
    objects: features.Features
    cached: texts.Texts
    en: list[str]
    zh: list[str]
    object_names: dict[str, str]
    coco_names: dict[str, str]
    nouns: list[tuple[str, str]]
    rows: list[dict]

    def figures(self, picture: model.PictureTower, text: model.TextTower) -> dict[str, float]:
        """Recall@1/5/10 in both languages, top-1 on objects51 (named, new), nouns in Chinese; all in [0, 1]."""
        picture.eval()
        with torch.inference_mode():
            dev, objects = (self._pictures(picture, f.lower[:, 0]) for f in (self.pictures, self.objects))
        picture.train()
        return self.figures_of(dev, objects, text)

    def figures_of(self, dev: torch.Tensor, objects: torch.Tensor, text: model.TextTower) -> dict[str, float]:
        """The same, from the pictures' vectors."""
        text.eval()
        with torch.inference_mode():
            found: dict[str, float] = {}
            for language, captions in (("en", self.en), ("zh", self.zh)):
                scores = self._texts(text, captions) @ dev.T
                truth = torch.arange(len(dev)).repeat_interleave(5)
                rank = (scores > scores.gather(1, truth[:, None])).sum(1)
                found |= {f"{language}_r{k}": (rank < k).float().mean().item() for k in (1, 5, 10)}
            names = list(self.object_names)
            truth = torch.tensor([names.index(row["name"]) for row in self.rows])
            known = torch.tensor([row["named"] for row in self.rows])
            for language in ("en", "zh"):
                asked = [texts.photo_of(n) for n in names] if language == "en" else list(self.object_names.values())
                hit = ((objects @ self._texts(text, asked).T).argmax(1) == truth).float()
                found |= {
                    f"objects_{language}": hit.mean().item(),
                    f"objects_{language}_named": hit[known].mean().item(),
                    f"objects_{language}_new": hit[~known].mean().item(),
                }
            for key, pairs in (
                ("coco_zh", list(zip(self.coco_names.values(), self.coco_names, strict=True))),
                ("nouns_zh", self.nouns),
            ):
                zh, en = self._texts(text, [z for z, _ in pairs]), self._texts(text, [e for _, e in pairs])
                found[key] = ((zh @ en.T).argmax(1) == torch.arange(len(pairs))).float().mean().item()
        text.train()
        return {key: round(value, 4) for key, value in found.items()}

    def _pictures(self, picture: model.PictureTower, lower: np.ndarray) -> torch.Tensor:
        out = []
        for start in range(0, len(lower), 128):
            learned, name, _ = picture.heads(picture.features(torch.from_numpy(np.array(lower[start : start + 128]))))
            out.append(model.joined(learned, name))
        return torch.cat(out)

    def _texts(self, text: model.TextTower, asked: list[str]) -> torch.Tensor:
        order = sorted(range(len(asked)), key=lambda i: len(asked[i]))
        out = torch.zeros(len(asked), model.LEARNED + model.NAMED)
        for start in range(0, len(order), 256):
            rows = order[start : start + 256]
            out[rows] = model.joined(*text.heads(text.centred(*self.cached.batch([asked[i] for i in rows]))))
        return out


def load(folder: Path, work: Path, layers: int, tower: e5.Tower) -> Judge:
    """Cache the development texts' lower states and gather the sets."""
    captions = data.read_captions(folder / "flickr8k_dev_captions.jsonl")
    en, zh = ([text for row in column for text in row] for column in (captions.en, captions.zh))
    objects, coco = (json.loads((NAMES / f"{name}.json").read_text(encoding="utf8")) for name in ("objects51", "coco"))
    nouns = [tuple(pair) for pair in json.loads((NAMES / "held_out_nouns.json").read_text(encoding="utf8"))]
    asked = [
        *en,
        *zh,
        *map(texts.photo_of, objects),
        *objects.values(),
        *coco,
        *coco.values(),
        *(w for p in nouns for w in p),
    ]
    unique = list(dict.fromkeys(asked))
    target = work / f"texts-dev-{layers}.npz"
    if not target.exists():
        tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(work / "nano.vocab.spm"))
        ids, starts, states = texts.lower_states(tower, [texts.encode(tokenizer, text) for text in unique], layers)
        np.savez(target, ids=ids, starts=starts, states=states)
    stored = np.load(target)
    cached = texts.Texts(
        index={text: i for i, text in enumerate(unique)},
        ids=stored["ids"],
        starts=stored["starts"],
        states=stored["states"],
    )
    dev = features.load(folder, work, "flickr8k_dev")
    place = {key: i for i, key in enumerate(dev.keys)}
    assert [place[name] for name in captions.images] == list(range(len(dev.keys))), (
        "captions and pictures are in one order"
    )
    shown = features.load(folder, work, "objects51")
    rows = {row["file"]: row for row in json.loads((folder / "objects51.json").read_text(encoding="utf8"))}
    return Judge(
        pictures=dev,
        objects=shown,
        cached=cached,
        en=en,
        zh=zh,
        object_names=objects,
        coco_names=coco,
        nouns=nouns,
        rows=[rows[key] for key in shown.keys],
    )
