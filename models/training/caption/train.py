"""Trains decoder and top on cached features: captions of both languages in every batch, weights averaged."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from training.caption import features, judge, model, texts
from training.train import spared

log = logging.getLogger("training")
WARM = 0.1  # share of the steps in which the rate rises
PARTS = ("lower", "scene", "findings")
NOTHING = (float(model.CLASSES), *(0.0,) * (model.FINDING - 1))  # a finding that is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How long, how fast, how many."""

    epochs: int = 30
    pictures: int = 64
    rate: float = 1.2e-3
    top: float = 0.1  # the rate of the trunk's top, as a share; it waits until the decoder has warmed up
    decay: float = 0.05
    smoothing: float = 0.1
    averaged: float = 0.998
    translated: float = 0.25  # share of the Chinese captions that are machine translations
    hidden: float = 0.1  # share of the cells and of the findings that a step does not see
    boxed: int = 6  # of the pictures of a step: how many have captions made from boxes
    dropout: float = 0.2
    taught: float = 0.6  # share of the loss that asks for what the teachers say, if there are any
    seed: int = 0


# What the student learns from: three of its kind that saw the same pictures and differ in how they were trained.
# Together they know better than any of them which other words would have done as well.
TEACHERS = (
    Recipe(seed=1),
    Recipe(seed=2, top=0.03, dropout=0.25),
    Recipe(seed=3, dropout=0.3, hidden=0.2),
)
STUDENT = Recipe(seed=6)


class Trainer:
    """A decoder, its averaged twin, and where training stands."""

    def __init__(self, folder: Path, work: Path, name: str, recipe: Recipe, device: str = "cpu") -> None:
        self.work, self.recipe, self.device = work, recipe, torch.device(device)
        self.checkpoint, self.best = work / f"{name}.checkpoint.pt", work / f"{name}.best.pt"
        self.teachers: list[model.Decoder] = []
        self.features, boxed = (features.load(folder, work, part) for part in ("train", "boxed"))
        self.captions = texts.load(folder, work, boxed.names)
        self.boxed = boxed
        count = len(self.features.names)
        held = np.array([spared(name) for name in self.features.names])
        self.trained, self.spare = np.flatnonzero(~held), np.flatnonzero(held)
        self.held = [
            {part: torch.from_numpy(getattr(seen, part)).to(self.device) for part in PARTS}
            for seen in (self.features, boxed)
        ]
        self.others = np.array([i for i in range(len(boxed.names)) if self.captions.rows(texts.EN, count + i)])
        torch.manual_seed(recipe.seed)
        self.random = np.random.default_rng(recipe.seed)
        shape = model.Shape(dropout=recipe.dropout)
        self.decoder, self.averaged = (model.Decoder(shape).to(self.device) for _ in range(2))
        self.averaged.load_state_dict(self.decoder.state_dict())
        self.averaged.eval()
        top = list(self.decoder.top.parameters())
        own = [p for name, p in self.decoder.named_parameters() if not name.startswith("top.")]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in own if p.ndim > 1], "weight_decay": recipe.decay},
                {"params": [p for p in own if p.ndim == 1], "weight_decay": 0.0},
                {"params": top, "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
            lr=recipe.rate,
            fused=True,
        )
        self.per_epoch = len(self.trained) // (recipe.pictures - recipe.boxed)
        self.steps, self.step = recipe.epochs * self.per_epoch, 0
        self.curve: list[dict[str, float]] = []
        log.info("%d parameters", sum(p.numel() for p in self.decoder.parameters()))

    def save(self, path: Path) -> None:
        """Write everything that `load` needs to go on."""
        state = {
            "decoder": self.decoder.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "curve": self.curve,
            "recipe": asdict(self.recipe),
            "random": self.random.bit_generator.state,
        }
        part = path.with_suffix(".part")
        torch.save(state, part)
        part.rename(path)

    def load(self, path: Path) -> None:
        """Go on where `save` was called."""
        state = self.read(path)
        self.decoder.load_state_dict(state["decoder"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.curve = state["step"], state["curve"]
        self.random.bit_generator.state = state["random"]

    def read(self, path: Path) -> dict[str, Any]:
        """Read what `save` or a judged checkpoint wrote, onto this trainer's device."""
        read: dict[str, Any] = torch.load(path, weights_only=True, map_location=self.device)
        return read

    def learn_from(self, weights: list[Path]) -> None:
        """Let trained decoders teach this one."""
        for path in weights:
            teacher = model.Decoder(self.decoder.shape).to(self.device).eval()
            teacher.load_state_dict(self.read(path))
            self.teachers.append(teacher)

    def run(self, minutes: float) -> None:
        """Train to the end, or for so long."""
        began = time.monotonic()
        losses: list[float] = []
        while self.step < self.steps and time.monotonic() - began < 60 * minutes:
            order = self.random.permutation(self.trained)
            for place in range(self.step % self.per_epoch, self.per_epoch):
                size = self.recipe.pictures - self.recipe.boxed
                losses.append(self._step(order[place * size : (place + 1) * size]))
                if self.step % 20 == 0:
                    log.info("step %d of %d, loss %.3f", self.step, self.steps, np.mean(losses[-20:]))
                if time.monotonic() - began > 60 * minutes:
                    break
            else:
                self._look(float(np.mean(losses[-self.per_epoch :])))
            self.save(self.checkpoint)

    def _look(self, loss: float) -> None:
        found = judge.spare(self.averaged, self.captions, self.features, self.spare)
        self.curve.append({"epoch": self.step // self.per_epoch, "loss": loss, **found})
        log.info("%s", "  ".join(f"{name} {value:.3f}" for name, value in self.curve[-1].items()))
        if found["cider_en"] + found["cider_zh"] >= max(row["cider_en"] + row["cider_zh"] for row in self.curve):
            torch.save(self.averaged.state_dict(), self.best)

    def _rate(self) -> float:
        """One cycle: up over a tenth, down along a cosine."""
        done = self.step / self.steps
        falling = 0.5 + 0.5 * np.cos(np.pi * max(0.0, done - WARM) / (1 - WARM))
        return min(done / WARM, falling) if done < 1 else 0.0

    def _drawn(self, pictures: np.ndarray) -> np.ndarray:
        """Ids (n * 3, t) of two English captions and a Chinese one for each picture, filled with PAD."""
        rows: list[list[int]] = []
        for picture in pictures:
            en, zh = self.captions.rows(texts.EN, picture), self.captions.rows(texts.ZH, picture)
            rows += [en[i] for i in self.random.choice(len(en), 2, replace=len(en) < 2)]
            translated = self.captions.rows(texts.TRANSLATED, picture)
            if translated and self.random.uniform() < self.recipe.translated:
                zh = translated
            rows.append((zh or en)[self.random.integers(len(zh or en))])
        ids = np.full((len(rows), max(map(len, rows))), texts.PAD, np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
        return ids

    def views(self, pictures: np.ndarray, others: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Lower grids, scene and findings of a random view of each captioned picture, then of each boxed one."""
        drawn = []
        for held, rows in zip(self.held, (pictures, others), strict=True):
            view = self.random.integers(held["scene"].shape[1], size=len(rows))
            drawn.append((held, torch.from_numpy(rows).to(self.device), torch.from_numpy(view).to(self.device)))
        return tuple(torch.cat([held[part][rows, view].float() for held, rows, view in drawn]) for part in PARTS)

    def _step(self, pictures: np.ndarray) -> float:
        loss = self.loss(pictures)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        shares = (1.0, 1.0, self.recipe.top if self.step > WARM * self.steps else 0.0)
        for group, share in zip(self.optimizer.param_groups, shares, strict=True):
            group["lr"] = float(self.recipe.rate * share * self._rate())
        self.optimizer.step()
        self.step += 1
        self._average()
        return float(loss.detach())

    def written(self, count: int) -> torch.Tensor:
        """The loss on so many pictures, drawn at random."""
        return self.loss(self.random.choice(self.trained, count - self.recipe.boxed, replace=False))

    def loss(self, pictures: np.ndarray) -> torch.Tensor:
        """Cross-entropy of what people wrote about these pictures, and of what the boxes of a few others say."""
        recipe = self.recipe
        others = self.random.choice(self.others, recipe.boxed, replace=False)
        lower, scene, findings = self.views(pictures, others)
        ids = torch.from_numpy(self._drawn(np.concatenate([pictures, len(self.features.names) + others])))
        ids = ids.to(self.device)
        wanted = ids[:, 1:]
        asked = (wanted != texts.PAD) & (wanted != texts.UNKNOWN)
        self.decoder.train()
        with torch.autocast(self.device.type, torch.bfloat16):
            cells = self.decoder.top(lower)
            hidden = [
                torch.rand(*part.shape[:2], 1, device=self.device) < recipe.hidden for part in (cells, scene, findings)
            ]
            fewer = torch.where(hidden[2], torch.tensor(NOTHING, device=self.device), findings)
            seen = self.decoder.look(cells * ~hidden[0], scene * ~hidden[1], fewer)
            logits = self.decoder.scores(self.decoder(ids[:, :-1], seen)[asked]).float()
            taught = self._taught(lower, scene, findings, ids[:, :-1], asked)
        loss = functional.cross_entropy(logits, wanted[asked], label_smoothing=recipe.smoothing)
        if taught is None:
            return loss
        return (1 - recipe.taught) * loss + recipe.taught * functional.cross_entropy(logits, taught)

    @torch.no_grad()
    def _taught(
        self,
        lower: torch.Tensor,
        scene: torch.Tensor,
        findings: torch.Tensor,
        ids: torch.Tensor,
        asked: torch.Tensor,
    ) -> torch.Tensor | None:
        """How likely the teachers together think each piece, where a piece is asked for; None without teachers."""
        if not self.teachers:
            return None
        heard = [one.scores(one(ids, one.see(lower, scene, findings))[asked]) for one in self.teachers]
        return torch.stack([logits.float().softmax(-1) for logits in heard]).mean(0)

    @torch.no_grad()
    def _average(self) -> None:
        share = min(self.recipe.averaged, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.decoder.parameters()), 1 - share)
