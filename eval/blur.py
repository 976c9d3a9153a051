"""Try to read number plates that went through the privacy level "blur": `python eval/blur.py`.

Plates are drawn on a photograph, some filling its whole width. The reader is told where each plate is, enlarges it, and
tries it as it is, with its contrast stretched and with it sharpened: what somebody would do who wanted to know.

Needs a text reader that Nearsight does not bring: `pip install rapidocr-onnxruntime` (1.4.4 was used).
"""

from __future__ import annotations

import argparse
import difflib
import json
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from nearsight.privacy import blurred

WALL = Path(__file__).resolve().parent.parent / "tests" / "photos" / "brick-wall.jpg"
SIZE_WH = (1000, 667)
LETTERS, DIGITS = "ABCDEFGHJKLMNPRSTUVWXYZ", "0123456789"
SHARES = (1.0, 0.5, 0.25)
READ_WIDTH = 320


def plate(rng: random.Random) -> tuple[str, Image.Image]:
    """Draw a plate of two letters and five digits."""
    text = "".join(rng.choices(LETTERS, k=2) + rng.choices(DIGITS, k=5))
    font = ImageFont.load_default(150)
    left, top, right, bottom = font.getbbox(text)
    picture = Image.new("RGB", (round(right - left) + 60, round(bottom - top) + 60), "white")
    ImageDraw.Draw(picture).text((30 - left, 30 - top), text, fill="black", font=font)
    return text, picture


def scene(picture: Image.Image, share: float) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """Put a plate in the middle of a wall; give the picture, and where the plate is, in shares of its size."""
    with Image.open(WALL) as wall:
        whole = wall.convert("RGB").resize(SIZE_WH)
    width = round(SIZE_WH[0] * share)
    small = picture.resize((width, round(picture.height * width / picture.width)))
    left, top = (SIZE_WH[0] - small.width) // 2, (SIZE_WH[1] - small.height) // 2
    whole.paste(small, (left, top))
    box = (left, top, left + small.width, top + small.height)
    return whole, tuple(value / SIZE_WH[axis % 2] for axis, value in enumerate(box))


def tries(picture: Image.Image, box: tuple[float, float, float, float]) -> list[Image.Image]:
    """Cut the plate out and enlarge it, in three ways."""
    cut = picture.crop(tuple(round(value * picture.size[axis % 2]) for axis, value in enumerate(box)))
    large = cut.resize((READ_WIDTH, max(1, round(READ_WIDTH * cut.height / cut.width))), Image.Resampling.BICUBIC)
    stretched = ImageOps.autocontrast(large)
    return [large, stretched, stretched.filter(ImageFilter.UnsharpMask(radius=12, percent=400, threshold=0))]


def main() -> None:
    """Count the plates and characters that are read."""
    from rapidocr_onnxruntime import RapidOCR

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plates", type=int, default=30, help="plates for each size (30)")
    parser.add_argument("--json", type=Path, help="write the counts here")
    options = parser.parse_args()
    reader = RapidOCR()
    rows = []
    for share in SHARES:
        for name, treat in (("sharp", lambda picture: picture), ("blur", blurred)):
            rng, whole, characters = random.Random(7), 0, 0
            for _ in range(options.plates):
                text, drawn = plate(rng)
                picture, box = scene(drawn, share)
                said = []
                for attempt in tries(treat(picture), box):
                    found, _ = reader(np.asarray(attempt)[:, :, ::-1].copy(), use_det=False, use_cls=False)
                    said.append("".join(line[0] for line in found or []).upper().replace(" ", ""))
                whole += text in said
                characters += max(
                    sum(block.size for block in difflib.SequenceMatcher(None, text, one, False).get_matching_blocks())
                    for one in said
                )
            row = {
                "privacy": name, "width_share": share, "plates": options.plates, "read": whole,
                "characters_read": round(characters / 7 / options.plates, 3),
            }  # fmt: skip
            rows.append(row)
            print(row, flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
