"""Fits the relevance: how likely a score means a right picture, from pictures and names that training did not use."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import sentencepiece
import torch

from nearsight.calibration import names_thing
from nearsight.names import Names
from training import data, e5, model, texts, train, words

log = logging.getLogger("training")
GALLERY = 1000
AMONG = (20, 50, 100, 300, GALLERY)
# Share of absent queries that may match in each kind of sample below, on average over galleries of all sizes.
# `make eval` measures sets not seen here.
ALLOWED = 0.1
WIDTH = model.LEARNED + model.NAMED
# Where hundreds of pictures are searched, a right answer rarely stands alone: the mean of the best few tells as well.
# On the samples below, a share of .5 keeps 7 points more captions at 10 % false match among 1,000, and none among 20.
SUPPORT, SUPPORT_SHARE, SUPPORT_SLOPE = 5, 0.5, 0.25
# Sentences about two absent things, so that sentences are not taken to be there because they are sentences.
PHRASES = {
    "en": ("a {} and a {} on the floor", "a {} next to a {}", "two people look at a {} and a {}", "a {} behind a {}"),
    "zh": ("地上的{}和{}", "{}旁边的{}", "两个人看着{}和{}", "{}后面的{}"),
}
KINDS = ("captions against names", "captions against sentences", "scenes")


class Shipped:
    """The written files, run as a user's machine runs them."""

    def __init__(self, out: Path) -> None:
        self.image, self.text = (
            ort.InferenceSession(out / name, providers=["CPUExecutionProvider"])
            for name in ("image.int8.onnx", "text.w4.onnx")
        )
        self.tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(out / "vocabulary.spm"))
        self.page = out / "names.zh.tsv"
        self.names = Names(self.page)

    def images(self, pixels: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(
            [
                self.image.run(["embedding"], {"pixels": np.stack(pixels[at : at + 16])})[0]
                for at in range(0, len(pixels), 16)
            ]
        )

    def said(self, text: str) -> str:
        """A text as a user's encoder gives it to the tower."""
        return self.names.english(text) or text

    def texts(self, asked: list[str]) -> np.ndarray:
        rows = [texts.encode(self.tokenizer, self.said(text)) for text in asked]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        out = np.zeros((len(rows), WIDTH), np.float32)
        for at in range(0, len(order), 32):
            chunk = order[at : at + 32]
            longest = max(len(rows[i]) for i in chunk)
            ids = np.array([rows[i] + [e5.PAD] * (longest - len(rows[i])) for i in chunk], np.int64)
            mask = np.array([[1] * len(rows[i]) + [0] * (longest - len(rows[i])) for i in chunk], np.int64)
            out[chunk] = self.text.run(None, {"ids": ids, "mask": mask})[0]
        return out


def usual(page: Path) -> dict[str, str]:
    """The usual Chinese name of each thing in the family's list, by its English name."""
    rows = (line.split("\t") for line in page.read_text(encoding="utf8").splitlines() if not line.startswith("#"))
    return {english: chinese.split("|")[0] for english, chinese in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Rows of `parts` (n, 3): present queries answered rightly, and absent ones."""

    present: np.ndarray
    absent: np.ndarray


def parts(
    asked: list[str], queries: np.ndarray, images: np.ndarray, right: np.ndarray | None = None, among: int = GALLERY
) -> np.ndarray:
    """Evidence of the best picture, tenfolds of pictures from 1,000 on, and whether the query names a thing, (n, 3).

    As nearsight/calibration.py has it.

    With `right` (n, m), only of queries answered rightly: in the first ten of 1,000, at the first place among fewer.
    """
    scores = queries @ images.T
    if among < len(images):
        hidden = np.random.default_rng(among).uniform(size=scores.shape) > among / len(images)
        if right is not None:
            # One right picture stays, the best one: among few, an answer stands alone.
            hidden |= right
            best = np.where(right, scores, -np.inf).argmax(1)
            hidden[np.arange(len(queries)), best] = ~right.any(1)
        scores[hidden] = -np.inf
    first = np.sort(scores, axis=1)[:, : -SUPPORT - 1 : -1]
    tenfolds = np.log10(among / GALLERY)
    share = np.clip(SUPPORT_SHARE + SUPPORT_SLOPE * tenfolds, 0, SUPPORT_SHARE)
    evidence = (1 - share) * first[:, 0] + share * first.mean(1)
    rows = np.stack([evidence, np.full(len(queries), tenfolds), [names_thing(text) for text in asked]], 1)
    if right is None:
        return rows
    order = np.argsort(-scores, axis=1)[:, : max(1, among // 100)]
    return rows[np.take_along_axis(right, order, 1).any(1)]


def captions_sample(folder: Path, shipped: Shipped) -> list[Sample]:
    """Spared captions as present queries, names that occur in no training caption as absent ones, in each language."""
    captions = data.read_captions(folder / "flickr8k_train_captions.jsonl")
    spared = [i for i, key in enumerate(captions.images) if train.spared(key)]
    others = [i for i in range(len(captions.images)) if i not in set(spared)]
    chosen = spared + sorted(np.random.default_rng(0).choice(others, GALLERY - len(spared), replace=False).tolist())
    wanted = {captions.images[i] for i in chosen}
    shown = {
        key: data.squared(picture) for key, picture in data.pictures(folder / "flickr8k_train.tar") if key in wanted
    }
    images = shipped.images([shown[captions.images[i]] for i in chosen])
    en_all = "\n".join(text.lower() for row in captions.en for text in row)
    zh_all = "\n".join(text for column in (captions.zh, captions.zh_of_en) for row in column for text in row)
    names = list(dict.fromkeys([row["names"][0].lower() for row in words.class_names()] + texts.clip_names(folder)))
    chinese = usual(shipped.page)
    absent = {
        "en": [name for name in names if not re.search(rf"\b{re.escape(name)}(s|es)?\b", en_all)],
        "zh": [chinese[name] for name in names if name in chinese and chinese[name] not in zh_all],
    }
    right = np.repeat(np.eye(len(spared), len(chosen), dtype=bool), 5, axis=0)
    found = []
    for language, column in (("en", captions.en), ("zh", captions.zh)):
        asked = [text for i in spared for text in column[i]]
        present, others = shipped.texts(asked), (absent[language], phrases(absent[language], language))
        found += [
            Sample(
                present=parts([*map(shipped.said, asked)], present, images, right, among),
                absent=parts([*map(shipped.said, wrong)], vectors, images, None, among),
            )
            for wrong, vectors in zip(others, map(shipped.texts, others), strict=True)
            for among in AMONG
        ]
    return found


def phrases(names: list[str], language: str) -> list[str]:
    """As many sentences as there are names, each about two things that are not there."""
    other = np.random.default_rng(1).permutation(names)
    forms = PHRASES[language]
    return [forms[at % len(forms)].format(one, two) for at, (one, two) in enumerate(zip(names, other, strict=True))]


def scenes_sample(folder: Path, shipped: Shipped) -> list[Sample]:
    """Class names on COCO photographs, whose objects are known: with and without the pictures that show the class."""
    boxes = json.loads((folder / "detection" / "train.json").read_text(encoding="utf8"))
    classes = boxes["classes"]
    by_file = {image["file"]: {box[4] for box in image["boxes"]} for image in boxes["images"]}
    pixels, labels = [], []
    for key, picture in data.pictures(folder / "detection" / "train.tar"):
        if len(pixels) == GALLERY:
            break
        pixels.append(data.squared(picture)), labels.append([c in by_file[key] for c in range(len(classes))])
    images, shown = shipped.images(pixels), np.array(labels)
    chinese = usual(shipped.page)
    found = []
    for asked in ([*classes], [chinese.get(name, "") for name in classes]):
        rows = [c for c, text in enumerate(asked) if text and 2 <= shown[:, c].sum() < GALLERY / 2]
        queries = shipped.texts([asked[c] for c in rows])
        for among in AMONG:
            texts_of = [shipped.said(asked[c]) for c in rows]
            present = parts(texts_of, queries, images, shown[:, rows].T, among)
            left = [
                parts([texts_of[i]], queries[i : i + 1], images[~shown[:, c]], None, among) for i, c in enumerate(rows)
            ]
            found.append(Sample(present=present, absent=np.concatenate(left)))
    return found


def logistic(samples: list[Sample]) -> tuple[np.ndarray, float]:
    """Slopes (3,) and intercept; each sample and each side of it weighs the same."""
    sides = [(side, value) for s in samples for side, value in ((s.present, 1.0), (s.absent, 0.0)) if len(side)]
    x = torch.from_numpy(np.concatenate([side for side, _ in sides])).double()
    y = torch.cat([torch.full((len(side),), value, dtype=torch.float64) for side, value in sides])
    weight = torch.cat([torch.full((len(side),), 1 / len(side), dtype=torch.float64) for side, _ in sides])
    slopes = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    intercept = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([slopes, intercept], max_iter=500, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logit = x @ slopes + intercept
        loss = (torch.nn.functional.binary_cross_entropy_with_logits(logit, y, reduction="none") * weight).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return slopes.detach().numpy(), float(intercept.detach())


def fitted(folder: Path, out: Path) -> dict[str, object]:
    """Coefficients of the relevance and the threshold at which few enough absent names match."""
    shipped = Shipped(out)
    samples = [*captions_sample(folder, shipped), *scenes_sample(folder, shipped)]
    slopes, intercept = logistic(samples)

    def relevance(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-(x @ slopes + intercept)))

    steps = np.linspace(0.3, 0.95, 651)
    matching = np.array([[(relevance(s.absent) >= step).mean() for s in samples] for step in steps])
    worst = matching.reshape(len(steps), -1, len(AMONG)).mean(2).max(1)
    threshold = float(steps[np.argmax(worst <= ALLOWED)])
    groups = [f"{kind} {language}" for language in ("en", "zh") for kind in KINDS[:2]]
    groups += [f"{KINDS[2]} {language}" for language in ("en", "zh")]
    titles = [f"{group} of {n}" for group in groups for n in AMONG]
    for title, s in zip(titles, samples, strict=True):
        kept, wrong = (float((relevance(x) >= threshold).mean()) for x in (s.present, s.absent))
        at = float((relevance(s.present) >= np.quantile(relevance(s.absent), 0.9)).mean())
        log.info(
            "%s: kept %.3f, false match %.3f; %.3f at .10 (%d, %d)",
            title,
            kept,
            wrong,
            at,
            len(s.present),
            len(s.absent),
        )
    return {
        "slope": round(float(slopes[0]), 3),
        "size_slope": round(float(slopes[1]), 3),
        "thing_shift": round(float(slopes[2]), 3),
        "intercept": round(intercept, 4),
        "support": SUPPORT,
        "support_share": SUPPORT_SHARE,
        "support_slope": SUPPORT_SLOPE,
        "min_relevance": round(threshold, 3),
    }
