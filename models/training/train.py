"""The training loop: pictures against captions, nouns against glosses, classes against names; resumable."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training import data, e5, features, judge, lite0, model, texts, words

log = logging.getLogger("training")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides the result, but the data."""

    seed: int = 0
    tuned_layers: int = 4
    epochs: int = 20
    pictures: int = 512
    pairs: int = 256
    class_pictures: int = 112
    crops: int = 64
    clip_names: int = 192
    rate_heads: float = 2e-3
    rate_text: float = 1.5e-4
    rate_picture: float = 3e-4
    weight_decay: float = 0.1
    smoothing: float = 0.05
    weight_zh: float = 1.0
    weight_pairs: float = 0.5
    weight_classes: float = 0.5
    weight_anchor: float = 20.0
    weight_distil: float = 0.3
    weight_clip_names: float = 0.5
    average: float = 0.98
    judge_every: int = 4
    warm_epochs: int = 50  # of the heads alone, over frozen towers


class Batches:
    """Draws what one step needs from the caches."""

    def __init__(self, folder: Path, work: Path, cached: texts.Texts, recipe: Recipe) -> None:
        self.cached, self.recipe = cached, recipe
        self.random = np.random.default_rng(recipe.seed)
        self.captions = data.read_captions(folder / "flickr8k_train_captions.jsonl")
        self.train, self.classes, self.crops = (
            features.load(folder, work, n) for n in ("flickr8k_train", "imagenet_names", "crops")
        )
        held = {zh for zh, _ in judge_nouns()}
        self.pairs = [pair for pair in words.dictionary() if pair[0] not in held]
        self.names = words.class_names()
        self.coco = texts.coco_names(folder)
        self.clip, self.clip_names = clip_targets(folder)
        trunk = lite0.load_trunk()
        with torch.inference_mode():
            self.teacher = {
                name: trunk.classifier(torch.from_numpy(f.pooled)).half()
                for name, f in (("train", self.train), ("classes", self.classes), ("crops", self.crops))
            }
        self.fitted = np.array([row for row, key in enumerate(self.train.keys) if not spared(key)])
        self.order = np.empty(0, np.int64)

    @property
    def steps_an_epoch(self) -> int:
        return len(self.fitted) // self.recipe.pictures

    def pictures(
        self, source: features.Features, teacher: Tensor, rows: np.ndarray, warm: bool
    ) -> tuple[Tensor, Tensor]:
        """Cached grids of a random view each, mirrored every other time, and the frozen trunk's logits.

        While warming up, the frozen trunk's pooled features in place of the grids.
        """
        view = self.random.integers(source.lower.shape[1], size=len(rows))
        if warm:
            return torch.from_numpy(source.pooled[rows, view]), teacher[rows, view].float()
        lower = np.stack([source.lower[r, v] for r, v in zip(rows, view, strict=True)])
        mirrored = self.random.uniform(size=len(rows)) < 0.5
        lower[mirrored] = lower[mirrored, :, :, ::-1]
        return torch.from_numpy(lower), teacher[rows, view].float()

    def captioned(self) -> tuple[np.ndarray, list[str], list[str]]:
        """Rows of training pictures with one English and one Chinese caption each."""
        if len(self.order) < self.recipe.pictures:
            self.order = self.random.permutation(self.fitted)
        rows, self.order = self.order[: self.recipe.pictures], self.order[self.recipe.pictures :]
        pick = self.random.integers(5, size=(len(rows), 2))
        which = self.random.uniform(size=len(rows))
        zh = [
            self.captions.zh[r][p]
            if w < 0.65
            else (self.captions.zh_of_en if w < 0.85 else self.captions.zh_of_en_2)[r][p]
            for r, p, w in zip(rows, pick[:, 1], which, strict=True)
        ]
        return rows, [self.captions.en[r][p] for r, p in zip(rows, pick[:, 0], strict=True)], zh

    def nouns(self) -> tuple[list[str], list[str]]:
        chosen = self.random.choice(len(self.pairs), self.recipe.pairs, replace=False)
        zh, en = zip(*(self.pairs[i] for i in chosen), strict=True)
        return list(zh), [texts.photo_of(gloss) if self.random.uniform() < 0.3 else gloss for gloss in en]

    def class_asks(self) -> list[str]:
        """A text for each ImageNet class that has pictures, then for each COCO class."""
        asked = []
        for key in self.classes.keys:
            row = self.names[int(key)]
            name = row["names"][self.random.integers(len(row["names"]))]
            asked.append(texts.photo_of(name) if self.random.uniform() < 0.7 else name)
        return asked + [texts.photo_of(name) for name in self.coco]

    def class_pictures(self, warm: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Grids, teacher logits and the place of the right text in `class_asks`."""
        a = self.random.integers(len(self.classes.keys), size=self.recipe.class_pictures)
        b = self.random.integers(len(self.crops.keys), size=self.recipe.crops)
        first, second = (
            self.pictures(self.classes, self.teacher["classes"], a, warm),
            self.pictures(self.crops, self.teacher["crops"], b, warm),
        )
        truth = np.concatenate([a, len(self.classes.keys) + np.array([self.coco.index(self.crops.keys[i]) for i in b])])
        return torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]]), torch.from_numpy(truth)

    def clip_batch(self) -> tuple[list[str], Tensor]:
        rows = self.random.choice(len(self.clip_names), self.recipe.clip_names, replace=False)
        return [self.clip_names[i] for i in rows], self.clip[rows]


def spared(key: str) -> bool:
    """Whether a training picture is kept for calibrating the relevance: one in twenty."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % 20 == 0


def judge_nouns() -> list[tuple[str, str]]:
    """The 500 nouns that training never sees."""
    return [tuple(pair) for pair in json.loads((judge.NAMES / "held_out_nouns.json").read_text(encoding="utf8"))]


def clip_targets(folder: Path) -> tuple[Tensor, list[str]]:
    """Centred unit CLIP text vectors of LVIS's and Objects365's names, one row a distinct name."""
    place = folder.parent / "weights" / "clip_text"
    vectors = np.concatenate(
        [
            np.load(place / f"{name}.npy").astype(np.float32).reshape(-1, 512)
            for name in ("lvis_v1_clip_a+cname", "o365_clip_a+cnamefix")
        ]
    )
    names = texts.clip_names(folder)
    assert len(vectors) == len(names), f"{len(vectors)} CLIP vectors for {len(names)} names"
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    first = {name: i for i, name in reversed(list(enumerate(names)))}
    rows = sorted(first.values())
    chosen = vectors[rows] - vectors[rows].mean(0)
    return torch.from_numpy(chosen / np.linalg.norm(chosen, axis=1, keepdims=True)), [names[i] for i in rows]


def contrast(scores: Tensor, smoothing: float, same: Tensor | None = None) -> Tensor:
    """Cross-entropy both ways; `same` (n, n) marks off-diagonal pairs that are right too and must not repel."""
    if same is not None:
        scores = scores.masked_fill(same & ~torch.eye(len(scores), dtype=torch.bool), -1e4)
    truth = torch.arange(len(scores))
    loss = nn.functional.cross_entropy
    smoothing = 0.0 if same is not None else smoothing
    return (loss(scores, truth, label_smoothing=smoothing) + loss(scores.T, truth, label_smoothing=smoothing)) / 2


def frozen_copy(text: model.TextTower) -> Callable[[Trainer, list[str]], Tensor]:
    """The text tower as it is now, as a function from texts to joined vectors."""
    copied = copy.deepcopy(text).eval()

    def vectors(trainer: Trainer, asked: list[str]) -> Tensor:
        return model.joined(*copied.heads(copied.centred(*trainer.cached.batch(asked))))

    return vectors


def tuned_vectors(text: model.TextTower, cached: texts.Texts, asked: list[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Centred, learned and named vectors; run in quarters by length, since padding costs."""
    order = sorted(range(len(asked)), key=lambda i: len(asked[i].split()) if asked[i].isascii() else len(asked[i]))
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    size = len(order) // 4 + 1
    parts = [text.centred(*cached.batch([asked[i] for i in order[p : p + size]])) for p in range(0, len(order), size)]
    centred = torch.cat(parts)[back]
    return (centred, *text.heads(centred))


class Trainer:
    """State of one run."""

    def __init__(self, folder: Path, work: Path, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.work = recipe, work
        start = 12 - recipe.tuned_layers
        self.cached, tower, self.kept = texts.load(folder, work, start)
        self.batches = Batches(folder, work, self.cached, recipe)
        self.judge = judge.load(folder, work, start, tower)
        self.frozen_vectors = self._pooled(tower, start)
        mean, basis = model.principal(self.frozen_vectors, model.NAMED)
        self.warming = False
        asked = [self.cached.index[texts.photo_of(name)] for row in words.class_names() for name in row["names"]]
        names_mean = torch.from_numpy(self.frozen_vectors[asked].mean(0))
        self.text = model.TextTower(tower.layers[start:], torch.from_numpy(mean), torch.from_numpy(basis), names_mean)
        self.picture = model.PictureTower(lite0.load_trunk())
        self.scale = nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))
        self.noun_scale = nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))
        tuned_text = [p for p in self.text.layers.parameters() if p.requires_grad]
        tuned_picture = [p for m in (self.picture.upper, self.picture.head) for p in m.parameters()]
        heads = [
            *self.text.first.parameters(),
            *self.text.second.parameters(),
            *self.picture.linear.parameters(),
            self.scale,
            self.noun_scale,
        ]
        slow = [*self.text.projection.parameters(), *self.picture.classifier.parameters()]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": heads, "lr": recipe.rate_heads, "weight_decay": recipe.weight_decay},
                {"params": tuned_text, "lr": recipe.rate_text, "weight_decay": 0.01},
                {"params": tuned_picture, "lr": recipe.rate_picture, "weight_decay": 0.01},
                {"params": slow, "lr": recipe.rate_picture, "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )
        self.steps = recipe.epochs * self.batches.steps_an_epoch
        rates = [group["lr"] for group in self.optimizer.param_groups]
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, rates, self.steps, pct_start=0.1, cycle_momentum=False
        )
        self.averaged = {name: p.detach().clone() for name, p in self._named()}
        self.step = 0

    def _named(self) -> list[tuple[str, Tensor]]:
        return [
            *(("text." + n, p) for n, p in self.text.named_parameters()),
            *(("picture." + n, p) for n, p in self.picture.named_parameters()),
        ]

    def _pooled(self, tower: e5.Tower, start: int) -> np.ndarray:
        """The frozen tower's sentence vectors (texts, 384) of every training text."""
        target = self.work / f"pooled-{start}.npy"
        if not target.exists():
            asked = sorted(
                self.cached.index,
                key=lambda text: int(
                    self.cached.starts[self.cached.index[text] + 1] - self.cached.starts[self.cached.index[text]]
                ),
            )
            vectors = np.zeros((len(asked), tower.word.weight.shape[1]), np.float32)
            with torch.inference_mode():
                for place in range(0, len(asked), 512):
                    chunk = asked[place : place + 512]
                    states, mask = self.cached.batch(chunk)
                    vectors[[self.cached.index[text] for text in chunk]] = e5.pooled(
                        tower.states(states, mask, start, 12), mask
                    ).numpy()
                    if place % (512 * 50) == 0:
                        log.info("frozen vectors: %d of %d", place, len(asked))
            np.save(target, vectors)
        return np.load(target)

    def pooled_of(self, asked: list[str]) -> Tensor:
        """The frozen tower's centred vectors of these texts."""
        rows = [self.cached.index[text] for text in asked]
        return torch.from_numpy(self.frozen_vectors[rows]) - self.text.mean

    def text_vectors(self, asked: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Centred, learned and named vectors."""
        if self.warming:
            centred = self.pooled_of(asked)
            return (centred, *self.text.heads(centred))
        return tuned_vectors(self.text, self.cached, asked)

    def refresh_names(self) -> None:
        """Name the 1,000 classes with the tower as it is now: names count once, hypernyms less the broader they are."""
        rows = words.class_names()
        asked = list(dict.fromkeys(texts.photo_of(name) for row in rows for name in (*row["names"], *row["broader"])))
        self.text.eval()
        with torch.inference_mode():
            found = torch.cat([self.text_vectors(asked[p : p + 512])[2] for p in range(0, len(asked), 512)])
        self.text.train()
        place = {text: i for i, text in enumerate(asked)}
        names = torch.stack([self._name(row, place, found) for row in rows])
        self.picture.names.copy_(model.unit(names, dim=-1))

    @staticmethod
    def _name(row: dict[str, list[str]], place: dict[str, int], found: Tensor) -> Tensor:
        own = torch.stack([found[place[texts.photo_of(n)]] for n in row["names"]]).mean(0)
        broader = [found[place[texts.photo_of(n)]] for n in row["broader"][:2]]
        return own + sum((0.3 / (i + 1) * v for i, v in enumerate(broader)), torch.zeros_like(own))

    def losses(self) -> dict[str, Tensor]:
        """One step's losses, weighted."""
        r, b = self.recipe, self.batches
        rows, en, zh = b.captioned()
        zh_nouns, en_nouns = b.nouns()
        asked, (clip_asked, clip) = b.class_asks(), b.clip_batch()
        lower, teacher = b.pictures(b.train, b.teacher["train"], rows, self.warming)
        class_lower, class_teacher, truth = b.class_pictures(self.warming)
        centred, learned, name = self.text_vectors([*en, *zh, *zh_nouns, *en_nouns, *asked, *clip_asked])
        text = model.joined(learned, name)
        sizes = [len(en), len(zh), len(zh_nouns), len(en_nouns), len(asked), len(clip_asked)]
        t_en, t_zh, t_zh_noun, t_en_noun, t_class, t_clip = text.split(sizes)
        shown_all = torch.cat([lower, class_lower])
        pooled = shown_all if self.warming else self.picture.features(shown_all)
        p_learned, p_name, logits = self.picture.heads(pooled)
        picture = model.joined(p_learned, p_name)
        shown, classed = picture.split([len(rows), len(truth)])
        scale, noun_scale = self.scale.exp().clamp(max=60), self.noun_scale.exp().clamp(max=60)
        same = torch.tensor([[a == c for c in en_nouns] for a in en_nouns]) | torch.tensor(
            [[a == c for c in zh_nouns] for a in zh_nouns]
        )
        frozen = model.unit(self.pooled_of(en_nouns), dim=-1)
        own = model.unit(centred.split(sizes)[3], dim=-1)
        temperature = 0.1
        clip_scores, wanted = t_clip @ t_clip.T * 10, (clip @ clip.T / temperature).softmax(-1)
        return {
            "en": contrast(shown @ t_en.T * scale, r.smoothing),
            "zh": r.weight_zh * contrast(shown @ t_zh.T * scale, r.smoothing),
            "nouns": r.weight_pairs * contrast(t_zh_noun @ t_en_noun.T * noun_scale, 0.0, same),
            "classes": r.weight_classes
            * nn.functional.cross_entropy(classed @ t_class.T * scale, truth, label_smoothing=r.smoothing),
            "anchor": r.weight_anchor * (1 - (own * frozen).sum(-1)).mean() * 0.05,
            "distil": r.weight_distil
            * nn.functional.kl_div(
                logits.log_softmax(-1), torch.cat([teacher, class_teacher]).softmax(-1), reduction="batchmean"
            ),
            "clip": r.weight_clip_names
            * nn.functional.kl_div(clip_scores.log_softmax(-1), wanted, reduction="batchmean"),
        }

    def warm(self) -> None:
        """Train the heads alone over frozen towers, which takes minutes, and keep the average as the start."""
        heads = [
            *self.text.first.parameters(),
            *self.text.second.parameters(),
            *self.picture.linear.parameters(),
            self.scale,
            self.noun_scale,
        ]
        optimizer = torch.optim.AdamW(
            heads, lr=self.recipe.rate_heads, betas=(0.9, 0.98), weight_decay=self.recipe.weight_decay
        )
        steps = self.recipe.warm_epochs * self.batches.steps_an_epoch
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.recipe.rate_heads, steps, pct_start=0.1, cycle_momentum=False
        )
        self.warming = True
        self.text.train(), self.picture.train()
        self.refresh_names()
        for step in range(steps):
            losses = self.losses()
            optimizer.zero_grad(set_to_none=True)
            sum(losses.values()).backward()
            optimizer.step(), schedule.step()
            if step % (20 * self.batches.steps_an_epoch) == 0:
                log.info(
                    "warm step %d of %d: %s",
                    step,
                    steps,
                    {key: round(value.item(), 3) for key, value in losses.items()},
                )
        self.warming = False
        self.averaged = {name: p.detach().clone() for name, p in self._named()}
        log.info("warm: %s", json.dumps(self.judged()))

    def run(self, minutes: float = 1e9) -> None:
        """Train to the end, judging every few epochs; checkpoints after every epoch."""
        began, sums = time.time(), {}
        self.text.train(), self.picture.train()
        while self.step < self.steps:
            if self.step % self.batches.steps_an_epoch == 0:
                self.refresh_names()
            losses = self.losses()
            self.optimizer.zero_grad(set_to_none=True)
            sum(losses.values()).backward()
            nn.utils.clip_grad_norm_([p for g in self.optimizer.param_groups for p in g["params"]], 5.0)
            self.optimizer.step(), self.schedule.step()
            self.step += 1
            average = min(self.recipe.average, (1 + self.step) / (10 + self.step))
            for name, p in self._named():
                self.averaged[name].lerp_(p.detach(), 1 - average)
            for key, value in losses.items():
                sums[key] = sums.get(key, 0.0) + value.item()
            if self.step % self.batches.steps_an_epoch == 0:
                epoch = self.step // self.batches.steps_an_epoch
                means = {key: round(value / self.batches.steps_an_epoch, 3) for key, value in sums.items()}
                sums = {}
                log.info("epoch %d, %.1f min, %s", epoch, (time.time() - began) / 60, means)
                self.save(self.work / "checkpoint.pt")
                if epoch % self.recipe.judge_every == 0 or self.step == self.steps:
                    log.info("epoch %d: %s", epoch, json.dumps(self.judged()))
                if (time.time() - began) / 60 > minutes:
                    break

    def judged(self) -> dict[str, float]:
        """Figures of the averaged weights."""
        kept = {name: p.detach().clone() for name, p in self._named()}
        self.swap(self.averaged)
        self.refresh_names()
        found = self.judge.figures(self.picture, self.text)
        self.swap(kept)
        return found

    def swap(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, p in self._named():
                p.copy_(values[name])

    def save(self, path: Path) -> None:
        state = {
            "step": self.step,
            "text": self.text.state_dict(),
            "picture": self.picture.state_dict(),
            "averaged": self.averaged,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": self.batches.random.bit_generator.state,
            "torch": torch.get_rng_state(),
            "scales": (self.scale.detach(), self.noun_scale.detach()),
            "order": self.batches.order,
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path, *, weights_only: bool = False) -> None:
        """Go on from a checkpoint, or with `weights_only` begin a run from its averaged weights."""
        state = torch.load(path, weights_only=False)
        self.averaged = state["averaged"]
        self.text.load_state_dict(state["text"]), self.picture.load_state_dict(state["picture"])
        with torch.no_grad():
            self.scale.copy_(state["scales"][0]), self.noun_scale.copy_(state["scales"][1])
        if weights_only:
            self.swap(self.averaged)
            return
        self.step = state["step"]
        self.optimizer.load_state_dict(state["optimizer"]), self.schedule.load_state_dict(state["schedule"])
        self.batches.random.bit_generator.state = state["random"]
        self.batches.order = state["order"]
        torch.set_rng_state(state["torch"])
