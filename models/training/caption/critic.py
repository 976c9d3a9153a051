"""The second stage: the decoder speaks, and what agrees with people more than its other tries becomes likelier.

Source: Rennie et al. 2017, Self-critical sequence training for image captioning; the baseline is the mean of the other
samples of the same picture.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from training.caption import judge, model, texts, train

log = logging.getLogger("training")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How long, how fast, how many."""

    steps: int = 630
    pictures: int = 64
    samples: int = 5
    rate: float = 3e-4
    top: float = 0.1  # the rate of the trunk's top, as a share
    chinese: int = 3  # one step in so many is in Chinese
    written: float = 0.2  # weight of the cross-entropy of what people wrote, boxed pictures included
    averaged: float = 0.99
    judge_every: int = 100


def consensus(trainer: train.Trainer, start: int) -> Callable[[list[int], int], float]:
    """CIDEr-D of ids against the captions of the training pictures, by their places among these."""
    rows = [
        [[i for i in ids if i > texts.TRANSLATED] for ids in trainer.captions.rows(start, picture)]
        for picture in trainer.trained
    ]
    judged: Callable[[list[int], int], float] = judge.agreement().Consensus(rows)
    return judged


def run(trainer: train.Trainer, recipe: Recipe) -> None:
    """Tune the decoder from its averaged weights; the result is the new average."""
    decoder, average, device = trainer.decoder, trainer.averaged, trainer.device
    decoder.load_state_dict(average.state_dict())
    agreements = {start: consensus(trainer, start) for start in (texts.EN, texts.ZH)}
    place = {int(picture): at for at, picture in enumerate(trainer.trained)}
    own = [p for name, p in decoder.named_parameters() if not name.startswith("top.")]
    groups = [{"params": own}, {"params": list(decoder.top.parameters())}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.0)
    began, heard = time.monotonic(), defaultdict[str, list[float]](list)
    for step in range(1, recipe.steps + 1):
        start = texts.EN if step % recipe.chinese else texts.ZH
        pictures = trainer.random.choice(trainer.trained, recipe.pictures, replace=False)
        seen_in = trainer.views(pictures, np.zeros(0, np.int64))
        decoder.eval()
        with torch.autocast(device.type, torch.bfloat16):
            seen = decoder.see(*seen_in)
            ids = decoder.spoken(seen.detach().repeat_interleave(recipe.samples, 0), start, drawn=True).clone()
            spoken = [model.bare(row) for row in ids.tolist()]
            worth = np.array(
                [agreements[start](row, place[int(pictures[at // recipe.samples])]) for at, row in enumerate(spoken)]
            )
            worth = worth.reshape(-1, recipe.samples)
            others = (worth.sum(1, keepdims=True) - worth) / (recipe.samples - 1)
            # Agreement in characters is three times as large a number as in words: each language counts by its spread.
            gain = torch.from_numpy(((worth - others) / max(worth.std(), 1e-6)).ravel()).float().to(device)
            states = decoder(ids[:, :-1], seen)
            wanted = ids[:, 1:]
            asked = wanted != texts.PAD
            logits = decoder.scores(states[asked]).float()
        chosen = nn.functional.cross_entropy(logits, wanted[asked], reduction="none")
        gains = gain[:, None].expand_as(wanted)[asked]
        loss = (gains * chosen).mean()
        written = trainer.written(recipe.pictures)
        optimizer.zero_grad(set_to_none=True)
        (loss + recipe.written * written).backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        for group, share in zip(optimizer.param_groups, (1.0, recipe.top), strict=True):
            group["lr"] = recipe.rate * share * min(1.0, step / 20) * (1 - step / (recipe.steps + 1))
        optimizer.step()
        with torch.no_grad():
            share = min(recipe.averaged, (1 + step) / (10 + step))
            for mean, now in zip(average.parameters(), decoder.parameters(), strict=True):
                mean.lerp_(now, 1 - share)
        heard["en" if start == texts.EN else "zh"].append(float(worth.mean()))
        heard["written"].append(float(written.detach()))
        if step % 30 == 0:
            means = {name: round(float(np.mean(values)), 3) for name, values in heard.items()}
            log.info("critic step %d, %.1f min, samples' CIDEr-D: %s", step, (time.monotonic() - began) / 60, means)
            heard.clear()
        if step % recipe.judge_every == 0 or step == recipe.steps:
            found = judge.spare(average, trainer.captions, trainer.features, trainer.spare)
            log.info("critic step %d: %s", step, {name: round(value, 3) for name, value in found.items()})
            torch.save(average.state_dict(), trainer.work / "critic.pt")
