"""`python -m training.onward`: polishes the shipped text tower further, against the shipped pictures' vectors.

The picture tower stays as it is, and with it the space: galleries need no reindex. Needs no checkpoint, only the
embedded files; the texts' cache is made if it is not there.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn

import nearsight_models
from nearsight_npu import prove
from training import calibrate, data, export, finish, golden, judge, package, polish, restore, texts, train, words

log = logging.getLogger("training")
OUT = finish.ROOT / "embedded" / "nano"
VIEWS = 4


class Shipped:
    """What `polish.tune` needs of a trainer, made from the embedded files."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.recipe, self.work = train.Recipe(), work
        torch.manual_seed(self.recipe.seed)
        start = 12 - self.recipe.tuned_layers
        self.cached, tower, _ = texts.load(folder, work, start)
        self.text = restore.text_tower(OUT / "text.w4.onnx", tower, self.recipe.tuned_layers)
        self.judge = judge.load(folder, work, start, tower)
        captions = data.read_captions(folder / "flickr8k_train_captions.jsonl")
        clip, clip_names = train.clip_targets(folder)
        held = {zh for zh, _ in train.judge_nouns()}
        self.batches = SimpleNamespace(
            captions=captions,
            fitted=np.array([row for row, key in enumerate(captions.images) if not train.spared(key)]),
            pairs=[pair for pair in words.dictionary() if pair[0] not in held],
            coco=texts.coco_names(folder),
            clip=clip,
            clip_names=clip_names,
        )
        session = ort.InferenceSession(OUT / "image.fp16.onnx", providers=["CPUExecutionProvider"])
        self.pictures = vectors(session, folder, work, "flickr8k_train", VIEWS)
        self.dev, self.objects = (vectors(session, folder, work, n, 1)[:, 0] for n in ("flickr8k_dev", "objects51"))
        self.names = torch.from_numpy(restore.constants(OUT / "image.fp16.onnx")["class.names"])
        # The temperatures are not in the files; both had reached their bound.
        self.scale, self.noun_scale = (nn.Parameter(torch.tensor(np.log(50.0), dtype=torch.float32)) for _ in range(2))
        self.averaged = {"text." + n: p.detach().clone() for n, p in self.text.named_parameters()}

    def text_vectors(self, asked: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Centred, learned and named vectors."""
        return train.tuned_vectors(self.text, self.cached, asked)

    def take(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, p in self.text.named_parameters():
                p.copy_(values["text." + name])

    def judged(self) -> dict[str, float]:
        """Figures of the averaged weights."""
        kept = {"text." + n: p.detach().clone() for n, p in self.text.named_parameters()}
        self.take(self.averaged)
        found = self.judge.figures_of(self.dev, self.objects, self.text)
        self.take(kept)
        return found

    def save(self, path: Path) -> None:
        partial = path.with_suffix(".partial")
        torch.save(self.averaged, partial)
        partial.replace(path)


def vectors(session: ort.InferenceSession, folder: Path, work: Path, name: str, views: int) -> Tensor:
    """Vectors (n, views, d) of a set's pictures by the shipped tower, cached."""
    target = work / f"vectors-{name}-{views}.npy"
    if not target.exists():
        random, found = np.random.default_rng(0), []
        for _, picture in data.pictures(folder / f"{name}.tar"):
            found.append(session.run(["embedding"], {"pixels": data.views(picture, random, views)})[0])
        np.save(target, np.stack(found))
    return torch.from_numpy(np.load(target))


def write(folder: Path, work: Path, shipped: Shipped, root: Path) -> None:
    """Write the text tower and all that depends on it to `root`, which holds the other files already."""
    out, page = root / "embedded" / "nano", nearsight_models.load("nano")
    shipped.take(shipped.averaged)
    shipped.text.eval()
    export.write_texts(folder, work, out, shipped.text)
    golden.rewrite_texts(work, out)
    report = prove(out / "text.w4.onnx", out / "text.golden.npz", "w4")
    if not report.passed:
        raise SystemExit(f"the text tower does not give its golden answers: {report.reason}")
    package.write(root, page.parameters, calibrate.fitted(folder, out), page.space)
    log.info("written to %s; now: python -m training.detector, whose words lie in this text space", root)


def main() -> None:
    """Polish, or write what the last polish gave."""
    parser = argparse.ArgumentParser(prog="training.onward", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder (its layout: README.md)")
    parser.add_argument("--work", type=Path, required=True, help="caches and checkpoints, outside the repository; 1 GB")
    parser.add_argument("--steps", type=int, default=polish.Polish().steps)
    parser.add_argument("--write", action="store_true", help="train nothing; write the files of the last polish")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        handlers=[logging.StreamHandler(), logging.FileHandler(args.work / "onward.log")],
    )
    shipped = Shipped(args.data, args.work)
    if args.write:
        shipped.averaged = torch.load(args.work / "polished.pt")
        write(args.data, args.work, shipped, finish.ROOT)
        return
    log.info("as shipped: %s", shipped.judged())
    polish.tune(shipped, polish.Polish(steps=args.steps), shipped.pictures, shipped.names)


if __name__ == "__main__":
    main()
