"""Trains the decoder on cached features: captions of both languages in every batch, weights averaged."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from training.caption import features, judge, model, texts

log = logging.getLogger("training")
SPARE = 400  # training pictures kept for the curve and the calibration
NOTHING = (float(model.CLASSES), *(0.0,) * (model.FINDING - 1))  # a finding that is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How long, how fast, how many."""

    epochs: int = 20
    pictures: int = 64
    rate: float = 1.2e-3
    decay: float = 0.05
    smoothing: float = 0.1
    averaged: float = 0.998
    translated: float = 0.25  # share of the Chinese captions that are machine translations
    hidden: float = 0.1  # share of the cells and of the findings that a step does not see
    boxed: int = 6  # of the pictures of a step: how many have captions made from boxes


class Trainer:
    """A decoder, its averaged twin, and where training stands."""

    def __init__(self, folder: Path, work: Path, recipe: Recipe) -> None:
        self.work, self.recipe = work, recipe
        self.features, boxed = (features.load(folder, work, part) for part in ("train", "boxed"))
        self.captions = texts.load(folder, work, boxed.names)
        self.boxed = boxed
        count = len(self.features.names)
        self.trained, self.spare = np.arange(count - SPARE), np.arange(count - SPARE, count)
        self.others = np.array([i for i in range(len(boxed.names)) if self.captions.rows(texts.EN, count + i)])
        torch.manual_seed(0)
        self.random = np.random.default_rng(0)
        self.decoder, self.averaged = (model.Decoder(model.Shape()) for _ in range(2))
        self.averaged.load_state_dict(self.decoder.state_dict())
        self.averaged.eval()
        bare = [p for p in self.decoder.parameters() if p.ndim == 1]
        heavy = [p for p in self.decoder.parameters() if p.ndim > 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": heavy, "weight_decay": recipe.decay}, {"params": bare, "weight_decay": 0.0}],
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
        state = torch.load(path, weights_only=True)
        self.decoder.load_state_dict(state["decoder"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.curve = state["step"], state["curve"]
        self.random.bit_generator.state = state["random"]

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
            self.save(self.work / "checkpoint.pt")

    def _look(self, loss: float) -> None:
        found = judge.spare(self.averaged, self.captions, self.features, self.spare)
        self.curve.append({"epoch": self.step // self.per_epoch, "loss": loss, **found})
        log.info("%s", "  ".join(f"{name} {value:.3f}" for name, value in self.curve[-1].items()))
        if found["cider_en"] + found["cider_zh"] >= max(row["cider_en"] + row["cider_zh"] for row in self.curve):
            torch.save(self.averaged.state_dict(), self.work / "best.pt")

    def _rate(self) -> float:
        """One cycle: up over a tenth, down along a cosine."""
        done = self.step / self.steps
        return min(done / 0.1, 0.5 + 0.5 * np.cos(np.pi * max(0.0, done - 0.1) / 0.9)) if done < 1 else 0.0

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
        """Cells, scene and findings of a random view of each captioned picture, then of each boxed one."""
        drawn = [
            (seen, rows, self.random.integers(seen.cells.shape[1], size=len(rows)))
            for seen, rows in ((self.features, pictures), (self.boxed, others))
            if len(rows)
        ]
        return tuple(
            torch.from_numpy(
                np.concatenate([getattr(s, part)[rows, view] for s, rows, view in drawn]).astype(np.float32)
            )
            for part in ("cells", "scene", "findings")
        )

    def _step(self, pictures: np.ndarray) -> float:
        loss = self.loss(pictures)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = float(self.recipe.rate * self._rate())
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
        cells, scene, findings = self.views(pictures, others)
        ids = torch.from_numpy(self._drawn(np.concatenate([pictures, len(self.features.names) + others])))
        self.decoder.train()
        with torch.autocast("cpu", torch.bfloat16):
            hidden = [torch.rand(*part.shape[:2], 1) < recipe.hidden for part in (cells, scene, findings)]
            findings = torch.where(hidden[2], torch.tensor(NOTHING), findings)
            seen = self.decoder.see(cells * ~hidden[0], scene * ~hidden[1], findings)
            states = self.decoder(ids[:, :-1], seen)
            wanted = ids[:, 1:]
            asked = (wanted != texts.PAD) & (wanted != texts.UNKNOWN)
            logits = self.decoder.scores(states[asked])
        return functional.cross_entropy(logits.float(), wanted[asked], label_smoothing=recipe.smoothing)

    @torch.no_grad()
    def _average(self) -> None:
        share = min(self.recipe.averaged, (1 + self.step) / (10 + self.step))
        for mean, now in zip(self.averaged.parameters(), self.decoder.parameters(), strict=True):
            mean.lerp_(now, 1 - share)
