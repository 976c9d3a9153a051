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

    steps: int = 330
    captions: int = 256
    pairs: int = 448
    seen_share: float = 0.5  # of the pairs, those whose gloss names a class, something that can be photographed
    clip_names: int = 128
    class_words: int = 192
    rate_text: float = 1.5e-4
    rate_heads: float = 6e-4
    weight_pairs: float = 1.0
    weight_class_words: float = 0.5  # Chinese names of ImageNet's classes, each against all 1,000
    weight_keep: float = 4.0  # English texts stay where the pictures know them
    average: float = 0.98


def visible(trainer: train.Trainer) -> np.ndarray:
    """Places of the dictionary pairs whose gloss is a name of some class."""
    names = {name.lower() for row in words.class_names() for name in (*row["names"], *row["broader"][:2])}
    names |= set(trainer.batches.clip_names) | set(trainer.batches.coco)
    return np.array([place for place, (_, gloss) in enumerate(trainer.batches.pairs) if gloss in names])


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


def tune(trainer: train.Trainer, recipe: Polish, pictures: Tensor, names: Tensor) -> None:
    """Tune the text tower against pictures' vectors (n, views, d) and the classes' names (1000, named), both fixed."""
    seen, random = visible(trainer), np.random.default_rng(trainer.recipe.seed + 1)
    class_zh, class_truth = class_words(trainer.batches.pairs)
    log.info("polish: %d Chinese words name a class", len(class_zh))
    log.info("polish: %d pairs that can be seen of %d", len(seen), len(trainer.batches.pairs))
    text, b = trainer.text.train(), trainer.batches
    teacher = train.frozen_copy(text)
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
        count = int(recipe.pairs * recipe.seen_share)
        chosen = np.unique(
            np.concatenate(
                [
                    random.choice(seen, count, replace=False),
                    random.choice(len(b.pairs), recipe.pairs - count, replace=False),
                ]
            )
        )
        zh_nouns, glosses = (list(side) for side in zip(*(b.pairs[i] for i in chosen), strict=True))
        asked = [texts.photo_of(gloss) if random.uniform() < 0.4 else gloss for gloss in glosses]
        clip_rows = random.choice(len(b.clip_names), recipe.clip_names, replace=False)
        class_rows = random.choice(len(class_zh), recipe.class_words, replace=False)
        of_classes, of_clip = [class_zh[i] for i in class_rows], [b.clip_names[i] for i in clip_rows]
        _, learned, name = trainer.text_vectors([*en, *zh, *zh_nouns, *asked, *of_clip, *of_classes])
        t_en, t_zh, t_zh_noun, t_noun, t_clip, _ = model.joined(learned, name).split(
            [len(en), len(zh), len(zh_nouns), len(asked), len(of_clip), len(of_classes)]
        )
        named = name[-len(of_classes) :] @ names.T * noun_scale_of(trainer)
        truth = class_truth[class_rows] / class_truth[class_rows].sum(1, keepdim=True)
        shown = pictures[rows, random.integers(pictures.shape[1], size=len(rows))]
        scale, noun_scale = trainer.scale.detach().exp().clamp(max=60), noun_scale_of(trainer)
        same = torch.tensor([[a == c for c in glosses] for a in glosses]) | torch.tensor(
            [[a == c for c in zh_nouns] for a in zh_nouns]
        )
        clip = b.clip[clip_rows]
        with torch.no_grad():
            kept = teacher(trainer, asked)
        losses = {
            "en": train.contrast(shown @ t_en.T * scale, 0.05),
            "zh": train.contrast(shown @ t_zh.T * scale, 0.05),
            "nouns": recipe.weight_pairs * train.contrast(t_zh_noun @ t_noun.T * noun_scale, 0.0, same),
            "classes": recipe.weight_class_words * nn.functional.cross_entropy(named, truth),
            "keep": recipe.weight_keep * (1 - (t_noun * kept).sum(-1)).mean(),
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
        if step % 30 == 0:
            log.info(
                "polish step %d, %.1f min, %s",
                step,
                (time.time() - began) / 60,
                {key: round(value / 30, 3) for key, value in sums.items()},
            )
            sums = {}
        if step % 110 == 0 or step == recipe.steps:
            trainer.averaged |= {"text." + n: p.clone() for n, p in average.items()}
            log.info("polish step %d: %s", step, json.dumps(trainer.judged()))
            trainer.save(trainer.work / "polished.pt")
