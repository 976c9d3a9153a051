"""The last stage: the text tower alone, mostly on nouns, against pictures that stay where they are."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from training import model, texts, train, words

log = logging.getLogger("training")


@dataclass(frozen=True, slots=True, kw_only=True)
class Polish:
    """How it is done."""

    steps: int = 440
    captions: int = 224
    nouns: int = 640  # Chinese words of a step
    seen_share: float = 0.75  # of them, those whose gloss names a class, something that can be photographed
    others: int = 8192  # glosses of a step that a noun must not be taken for, beside all that can be photographed
    asked: int = 128  # English names of a step that must stay where they are
    clip_names: int = 64
    rate_text: float = 8e-5
    rate_heads: float = 2e-4
    weight_nouns: float = 1.0
    weight_reach: float = 12.0  # a noun that can be photographed comes to lie where its glosses lie
    weight_class_words: float = 0.5  # Chinese names of ImageNet's classes, each against all 1,000
    weight_keep: float = 16.0  # English names stay where the pictures know them
    weight_stay: float = 24.0  # so do captions, in both languages
    average: float = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Bank:
    """English names where the tower puts them before the polish: what a Chinese noun is pulled to.

    Attributes:
        names: Distinct names; those that can be photographed come first.
        seen: How many these are.
        vectors: (n, d), unit: the mean of the name's own vector and that of "a photo of a ...".
        words: Distinct Chinese words; those with a gloss that can be photographed come first.
        words_seen: How many these are.
        glosses: For each word, rows of its glosses; where one of them can be photographed, only such.
    """

    names: list[str]
    seen: int
    vectors: Tensor
    words: list[str]
    words_seen: int
    glosses: list[list[int]]


def bank(trainer: train.Trainer) -> Bank:
    """Gather the names, run the tower over them once, and match the dictionary's words with them."""
    b = trainer.batches
    seen = dict.fromkeys([*b.coco, *b.clip_names])
    seen |= dict.fromkeys(n.lower() for row in words.class_names() for n in (*row["names"], *row["broader"][:2]))
    names = list(seen | dict.fromkeys(gloss for _, gloss in b.pairs))
    names = [name for name in names if name in trainer.cached.index and texts.photo_of(name) in trainer.cached.index]
    place = {name: row for row, name in enumerate(names)}
    count = sum(name in seen for name in names)
    found: dict[str, list[int]] = {}
    for zh, gloss in b.pairs:
        found.setdefault(zh, []).append(place[gloss])
    photographed = {zh: [row for row in rows if row < count] for zh, rows in found.items()}
    ordered = sorted(found, key=lambda zh: not photographed[zh])
    return Bank(
        names=names,
        seen=count,
        vectors=model.unit(placed(trainer, names) + placed(trainer, [*map(texts.photo_of, names)]), dim=-1),
        words=ordered,
        words_seen=sum(map(bool, photographed.values())),
        glosses=[photographed[zh] or found[zh] for zh in ordered],
    )


def placed(trainer: train.Trainer, asked: list[str]) -> Tensor:
    """Where the tower puts texts as it is now: unit vectors (n, d)."""
    trainer.text.eval()
    order = sorted(range(len(asked)), key=lambda row: len(asked[row]))
    out = torch.zeros(len(asked), model.LEARNED + model.NAMED)
    with torch.no_grad(), torch.nn.utils.parametrize.cached():
        for at in range(0, len(order), 512):
            rows = order[at : at + 512]
            _, learned, name = trainer.text_vectors([asked[row] for row in rows])
            out[rows] = model.joined(learned, name)
    trainer.text.train()
    return out


def picture_vectors(trainer: train.Trainer) -> Tensor:
    """Vectors (n, views, d) of the training pictures, by the tower as it is."""
    lower = trainer.batches.train.lower
    found = torch.zeros(lower.shape[0], lower.shape[1], model.LEARNED + model.NAMED)
    trainer.picture.eval()
    with torch.inference_mode():
        for view in range(lower.shape[1]):
            for at in range(0, len(lower), 256):
                learned, name, _ = trainer.picture.heads(
                    trainer.picture.features(torch.from_numpy(np.array(lower[at : at + 256, view])))
                )
                found[at : at + 256, view] = model.joined(learned, name)
    return found.clone()


def class_words(pairs: list[tuple[str, str]]) -> tuple[list[str], Tensor]:
    """Chinese words whose gloss names an ImageNet class, and which classes (words, 1000) it names."""
    rows: dict[str, set[int]] = {}
    for index, row in enumerate(words.class_names()):
        for name in row["names"]:
            rows.setdefault(name.lower(), set()).add(index)
    found: dict[str, set[int]] = {}
    for zh, gloss in pairs:
        if gloss in rows:
            found.setdefault(zh, set()).update(rows[gloss])
    truth = torch.zeros(len(found), 1000)
    for place, classes in enumerate(found.values()):
        truth[place, sorted(classes)] = 1
    return list(found), truth


def noun_scale_of(trainer: train.Trainer) -> Tensor:
    """The temperature of nouns, kept from running away."""
    return trainer.noun_scale.exp().clamp(max=60)


def run(trainer: train.Trainer, recipe: Polish) -> None:
    """Tune the text tower from the averaged weights; the result is the trainer's new average."""
    trainer.swap(trainer.averaged)
    trainer.refresh_names()
    tune(trainer, recipe, picture_vectors(trainer), trainer.picture.names)


def tune(trainer: train.Trainer, recipe: Polish, pictures: Tensor, class_names: Tensor) -> None:
    """Tune the text tower against pictures' vectors (n, views, d) and the classes' names (1000, named), both fixed."""
    random, text, b = np.random.default_rng(trainer.recipe.seed + 1), trainer.text, trainer.batches
    names = bank(trainer)
    class_zh, class_truth = class_words(b.pairs)
    class_row = {word: row for row, word in enumerate(class_zh)}
    log.info("polish: %d Chinese words, %d can be seen, %d name a class; %d English names, %d can be seen",
             len(names.words), names.words_seen, len(class_zh), len(names.names), names.seen)
    columns = (b.captions.en, b.captions.zh, b.captions.zh_of_en)
    where = {text: row for row, text in enumerate(dict.fromkeys(t for c in columns for five in c for t in five))}
    before = placed(trainer, list(where))
    text.train()
    fast = [*text.first.parameters(), *text.second.parameters()]
    slow = [p for p in text.parameters() if p.requires_grad and all(p is not q for q in fast)]
    groups = [
        {"params": fast, "lr": recipe.rate_heads},
        {"params": [*slow, trainer.noun_scale], "lr": recipe.rate_text},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [g["lr"] for g in groups], recipe.steps, pct_start=0.1, cycle_momentum=False
    )
    average, began, sums = {n: p.detach().clone() for n, p in text.named_parameters()}, time.time(), {}
    for step in range(1, recipe.steps + 1):
        rows = random.choice(b.fitted, recipe.captions, replace=False)
        en = [b.captions.en[r][random.integers(5)] for r in rows]
        zh = [
            b.captions.zh[r][random.integers(5)]
            if random.uniform() < 0.75
            else b.captions.zh_of_en[r][random.integers(5)]
            for r in rows
        ]
        seen = int(recipe.nouns * recipe.seen_share)
        chosen = np.concatenate([
            random.choice(names.words_seen, seen, replace=False),
            names.words_seen + random.choice(len(names.words) - names.words_seen, recipe.nouns - seen, replace=False),
        ])
        nouns = [names.words[i] for i in chosen]
        kept_rows = np.concatenate([
            random.choice(names.seen, recipe.asked // 2, replace=False),
            random.choice(len(names.names), recipe.asked // 2, replace=False),
        ])
        asked = [names.names[i] for i in kept_rows]
        clip_rows = random.choice(len(b.clip_names), recipe.clip_names, replace=False)
        of_clip = [b.clip_names[i] for i in clip_rows]
        with torch.nn.utils.parametrize.cached():
            _, learned, name = trainer.text_vectors(
                [*en, *zh, *nouns, *asked, *map(texts.photo_of, asked), *map(texts.photo_of, of_clip)]
            )
        sizes = [len(en), len(zh), len(nouns), len(asked), len(asked), len(of_clip)]
        t_en, t_zh, t_noun, t_name, t_photo, t_clip = model.joined(learned, name).split(sizes)
        shown = pictures[rows, random.integers(pictures.shape[1], size=len(rows))]
        scale, noun_scale = trainer.scale.detach().exp().clamp(max=60), noun_scale_of(trainer)
        other = names.seen + random.choice(len(names.names) - names.seen, recipe.others, replace=False)
        among = names.vectors[np.concatenate([np.arange(names.seen), other])]
        # Each noun looks at the names as its gloss does, synonyms included; several glosses share.
        target = torch.stack([(names.vectors[names.glosses[i]] @ among.T * noun_scale.detach()).softmax(-1).mean(0)
                              for i in chosen])
        wanted = torch.stack([names.vectors[names.glosses[i]].mean(0) for i in chosen[:seen]])
        classed = [(place, class_row[word]) for place, word in enumerate(nouns) if word in class_row]
        named = name.split(sizes)[2][[place for place, _ in classed]] @ class_names.T * noun_scale
        truth = class_truth[[row for _, row in classed]]
        clip = b.clip[clip_rows]
        stay = model.unit(t_name + t_photo, dim=-1)
        losses = {
            "en": train.contrast(shown @ t_en.T * scale, 0.05),
            "zh": train.contrast(shown @ t_zh.T * scale, 0.05),
            "nouns": recipe.weight_nouns * nn.functional.cross_entropy(t_noun @ among.T * noun_scale, target),
            "reach": recipe.weight_reach * (1 - (t_noun[:seen] * model.unit(wanted, dim=-1)).sum(-1)).mean(),
            "classes": recipe.weight_class_words
            * nn.functional.cross_entropy(named, truth / truth.sum(1, keepdim=True)),
            "keep": recipe.weight_keep * (1 - (stay * names.vectors[kept_rows]).sum(-1)).mean(),
            "stay": recipe.weight_stay
            * (1 - (torch.cat([t_en, t_zh]) * before[[where[text] for text in (*en, *zh)]]).sum(-1)).mean(),
            "clip": trainer.recipe.weight_clip_names
            * nn.functional.kl_div(
                (t_clip @ t_clip.T * 10).log_softmax(-1), (clip @ clip.T / 0.1).softmax(-1), reduction="batchmean"
            ),
        }
        optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], 5.0)
        optimizer.step(), schedule.step()
        for n, p in text.named_parameters():
            average[n].lerp_(p.detach(), 1 - min(recipe.average, (1 + step) / (10 + step)))
        for key, value in losses.items():
            sums[key] = sums.get(key, 0.0) + value.item()
        if step % 20 == 0:
            means = {key: round(value / 20, 3) for key, value in sums.items()}
            log.info("polish step %d, %.1f min, %s", step, (time.time() - began) / 60, means)
            sums = {}
        if step % 100 == 0 or step == recipe.steps:
            trainer.averaged |= {"text." + n: p.clone() for n, p in average.items()}
            trainer.save(trainer.work / "polished.pt")
            log.info("polish step %d: %s", step, json.dumps(trainer.judged()))
