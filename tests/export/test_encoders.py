"""Encoders of the real architectures: what runs without torch gives what torch gives, from picture or text to vector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_encoders as tiny
import torch
from PIL import Image

import nearsight as ns
from nearsight.exporting import export_model

if TYPE_CHECKING:
    from pathlib import Path

BUILT = {"clip": tiny.clip, "siglip": tiny.siglip, "chinese-clip": tiny.chinese_clip}
# White space is squeezed before any tokenizer sees a text; CLIP's does so itself.
SQUEEZED = [" ".join(text.split()) for text in tiny.ENGLISH]
TEXTS = {"clip": tiny.ENGLISH, "siglip": SQUEEZED, "chinese-clip": tiny.CHINESE}
PADDING = {"clip": {"padding": True}, "siglip": {"padding": "max_length"}, "chinese-clip": {"padding": True}}
LONGEST = {"clip": 77, "siglip": 64, "chinese-clip": 52}

ENCODE = """
    import json, sys
    import nearsight as ns
    folder, model, texts = sys.argv[2:5]
    encoder = ns.Encoder(model)
    from pathlib import Path
    pictures = sorted(Path(folder).iterdir())
    found["images"] = encoder.images(pictures).vectors
    found["texts"] = np.concatenate([encoder.texts(json.loads(texts)).vectors, encoder.texts(json.loads(texts)[1:2]).vectors])
    found["dimensions"] = encoder.dimensions
"""


@pytest.fixture
def album(tmp_path: Path, photos: Path) -> Path:
    """Make a folder of five PNG files of odd sizes, one grey, and a JPEG file of a camera's size."""
    folder = tmp_path / "album"
    folder.mkdir()
    for place, (name, size) in enumerate(
        [("cat", (61, 37)), ("coffee", (33, 97)), ("rocket", (32, 32)), ("coins", (250, 31)), ("astronaut", (99, 100))]
    ):
        picture = Image.open(photos / f"{name}.jpg").convert("L" if name == "coins" else "RGB")
        picture.resize(size).save(folder / f"{place}.png")
    rocket = Image.open(photos / "rocket.jpg").convert("RGB")
    rocket.rotate(20).resize((1600, 1200), Image.Resampling.NEAREST).save(folder / "5.jpg", quality=90)
    return folder


@pytest.fixture(params=sorted(BUILT))
def hub(request: pytest.FixtureRequest, tmp_path: Path, entry: Any) -> tuple[str, Any, Any, Path]:
    """Build, save and export: architecture, torch's model, transformers' processor, models folder."""
    architecture = request.param
    model = BUILT[architecture](tmp_path / "source")
    languages = ("zh",) if architecture == "chinese-clip" else ("en",)
    page = entry(f"tiny-{architecture}", architecture, "search", languages=languages)
    export_model(page, tmp_path / "source", folder=tmp_path / "models")
    processor = getattr(tiny, architecture.replace("-", "_") + "_processor")()
    return architecture, model, processor, tmp_path / "models"


def unit(vectors: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vectors, dim=-1).numpy()


def test_pictures_and_texts_become_the_vectors_that_torch_gives(hub, album, torchless):
    """Other texts, lengths and batches than the graphs were traced with."""
    import json

    architecture, model, processor, models = hub
    texts = TEXTS[architecture]
    pictures = [Image.open(path) for path in sorted(album.iterdir())]
    words = processor.tokenizer(
        texts, return_tensors="pt", truncation=True, max_length=LONGEST[architecture], **PADDING[architecture]
    )
    if architecture == "siglip":
        words = {"input_ids": words["input_ids"]}
    with torch.no_grad():
        seen = unit(model.get_image_features(**processor.image_processor(pictures, return_tensors="pt")).pooler_output)
        said = unit(model.get_text_features(**words).pooler_output)

    found = torchless(ENCODE, models, album, f"tiny-{architecture}", json.dumps(texts))

    assert (seen @ seen.T - np.eye(len(seen))).max() < 0.9999, "pictures that torch tells apart"
    assert (found["images"] * seen).sum(1).min() >= 0.9999
    assert (found["texts"][: len(texts)] * said).sum(1).min() >= 0.9999
    assert found["texts"][-1] @ said[1] >= 0.9999, "a text alone, in another batch and length"


def test_a_graph_of_fixed_batches_gives_the_same(tmp_path, album, torchless, entry):
    import json

    tiny.clip(tmp_path / "source")
    for name, batch in (("free", None), ("fixed", 2)):
        export_model(entry(name, "clip", "search"), tmp_path / "source", folder=tmp_path / "models", batch=batch)

    free, fixed = (
        torchless(ENCODE, tmp_path / "models", album, name, json.dumps(tiny.ENGLISH)) for name in ("free", "fixed")
    )

    assert (free["images"] * fixed["images"]).sum(1).min() >= 0.99999
    assert (free["texts"] * fixed["texts"]).sum(1).min() >= 0.99999


@pytest.mark.parametrize("architecture", [*BUILT, "mobileclip"])
def test_a_canvas_is_refused_by_every_encoder(architecture, tmp_path, entry):
    with pytest.raises(
        ns.InputError, match=r"a canvas of \(64, 32\) was asked for.*OWLv2 and Grounding DINO"
    ) as caught:
        export_model(entry("tiny", architecture, "search"), tmp_path, folder=tmp_path / "models", canvas=(64, 32))

    assert "\n" not in str(caught.value)


def test_other_weights_are_another_space_and_the_same_weights_are_not(tmp_path, entry):
    from nearsight_models.manifest import parse

    def space(source: Path, name: str) -> str:
        made = export_model(entry("tiny", "clip", "search"), source, folder=tmp_path / name)
        return parse((made / "manifest.toml").read_text(encoding="utf8"), made).space

    model = tiny.clip(tmp_path / "one")
    with torch.no_grad():
        model.visual_projection.weight[0, 0] += 1e-3
    model.save_pretrained(tmp_path / "two")
    tiny.clip_processor().save_pretrained(tmp_path / "two")

    assert space(tmp_path / "one", "a") == space(tmp_path / "one", "b") != space(tmp_path / "two", "c")


@pytest.mark.parametrize("architecture", sorted(BUILT))
def test_ids_are_the_tokenizers_own(architecture, tmp_path):
    """Through `tokenizer.json` alone: cut, ended, filled up and made lower case as transformers does."""
    from nearsight.families.lookup import leaf
    from nearsight_models import File, Manifest

    BUILT[architecture](tmp_path)
    processor = getattr(tiny, architecture.replace("-", "_") + "_processor")()
    names = ("config.json", "tokenizer.json", "tokenizer_config.json", "processor_config.json")
    page = Manifest(
        name="tiny", family="tiny", capability="search", architecture=architecture, summary="", languages=("en",),
        licence="", trained_on=(), research_only=False, parameters=0, files={}, golden={}, preprocessing=None,
        settings={}, assets={name: File.of(tmp_path / name) for name in names},
    )  # fmt: skip

    texts = TEXTS[architecture]
    wanted = processor.tokenizer(texts, truncation=True, max_length=LONGEST[architecture], **PADDING[architecture])
    arrays = leaf(page).text_arrays(texts)

    if architecture != "clip":
        assert arrays["input_ids"].tolist() == wanted["input_ids"]
    # CLIP is filled up with zeros, as in training, where transformers takes the end token: it is not looked at.
    if "attention_mask" in arrays:
        shown = np.array(wanted["attention_mask"])
        assert (np.where(shown, arrays["input_ids"], 0) == np.where(shown, wanted["input_ids"], 0)).all()
        assert (arrays["attention_mask"] == shown).all()


def test_the_tokenizer_made_of_open_clips_vocabulary_is_open_clips():
    import open_clip

    from nearsight.exporting.openclip import clip_tokenizer

    texts = [
        *tiny.ENGLISH[:4],
        "émigré naïve Zürich",
        "日本 猫",
        "don't stop!! we're 100% sure...",
        "emoji 🐕 dog",
        "ÀÉ Straße",
    ]
    made = clip_tokenizer()
    made.enable_truncation(77)
    wanted = open_clip.get_tokenizer("ViT-B-32")(texts).tolist()

    for text, row in zip(texts, wanted, strict=True):
        ids = made.encode(text).ids
        assert ids + [0] * (77 - len(ids)) == row, text


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "architecture", "side", "preprocess"),
    [
        ("ViT-B-32", "clip", 224, {}),
        (
            "MobileCLIP2-S0",
            "mobileclip",
            256,
            {"mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bilinear", "resize_mode": "shortest"},
        ),
    ],
)
def test_full_size_open_clip_models_give_torchs_vectors(  # noqa: PLR0917  (fixtures)
    name, architecture, side, preprocess, tmp_path, photos, torchless, entry
):
    """Weights are random; shapes are the real ones, and the saved folder is what `local-dir:` reads."""
    import json

    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    model = tiny.open_clip_folder(tmp_path / "source", name, preprocess=preprocess)
    stated = {key: tuple(value) if isinstance(value, list) else value for key, value in preprocess.items()}
    prepared = image_transform_v2(PreprocessCfg(size=side, **stated), is_train=False)
    album = tmp_path / "album"
    album.mkdir()
    for photo in sorted(photos.glob("*.jpg"))[:3]:
        picture = Image.open(photo).convert("RGB")
        picture.resize((picture.width + 1, picture.height)).save(album / f"{photo.stem}.png")
    picture.rotate(30).resize((1600, 1200), Image.Resampling.NEAREST).save(album / "large.jpg", quality=90)
    pictures = [Image.open(path) for path in sorted(album.iterdir())]
    with torch.no_grad():
        seen = unit(model.encode_image(torch.stack([prepared(picture) for picture in pictures])))
        said = unit(model.encode_text(open_clip.get_tokenizer(name)(tiny.ENGLISH)))
    export_model(entry("full", architecture, "search"), tmp_path / "source", folder=tmp_path / "models")

    found = torchless(ENCODE, tmp_path / "models", album, "full", json.dumps(tiny.ENGLISH))

    assert (seen @ seen.T - np.eye(len(seen))).max() < 0.999, "pictures that torch tells apart"
    assert (found["images"] * seen).sum(1).min() >= 0.9999
    assert (found["texts"][: len(said)] * said).sum(1).min() >= 0.9999


SEARCH = """
    import sys
    import nearsight as ns
    album, place, text = sys.argv[2:5]
    from pathlib import Path
    with ns.Gallery.open(place, encoder="nano") as gallery:
        gallery.add(album)
        try:
            ns.Gallery.open(place, encoder="tiny")
        except ns.SpaceMismatchError:
            found["refused"] = True
        gallery.reindex("tiny")
    with ns.Gallery.open(place, encoder="tiny") as gallery:
        hits = gallery.search(text, k=9, min_relevance=0)
        found["order"] = [hit.path.stem for hit in hits]
        found["scores"] = [hit.score for hit in hits]
        found["itself"] = [gallery.search(path, k=1)[0].path == path for path in sorted(Path(album).glob("*.png"))]
"""


def test_a_gallery_moves_from_nano_to_an_exported_model_and_ranks_as_torch_does(tmp_path, album, torchless, entry):
    model = tiny.clip(tmp_path / "source")
    processor = tiny.clip_processor()
    export_model(entry("tiny", "clip", "search"), tmp_path / "source", folder=tmp_path / "models")
    pictures = [Image.open(path) for path in sorted(album.iterdir())]
    with torch.no_grad():
        seen = unit(model.get_image_features(**processor.image_processor(pictures, return_tensors="pt")).pooler_output)
        said = unit(model.get_text_features(**processor.tokenizer(["a dog"], return_tensors="pt")).pooler_output)
    scores = (seen @ said.T)[:, 0]

    found = torchless(SEARCH, tmp_path / "models", album, tmp_path / "g.nsg", "a dog")

    assert found["refused"]
    assert found["itself"].all()
    assert found["order"].tolist() == [str(place) for place in np.argsort(-scores)]
    assert np.allclose(found["scores"], np.sort(scores)[::-1], atol=1e-4)


def test_int8_is_added_where_it_makes_a_graph_much_smaller(tmp_path, album, torchless, entry):
    """The picture tower is mostly products; the small text tower is mostly a table, and stays as it is."""
    import json

    from nearsight.errors import NearsightWarning

    tiny.clip(tmp_path / "source", width=128)
    with pytest.warns(NearsightWarning, match="the graph text stays in FP32"):
        export_model(entry("tiny", "clip", "search"), tmp_path / "source", folder=tmp_path / "models", int8=True)
    folder = tmp_path / "models" / "tiny" / "onnx"

    full, small = (
        torchless(
            ENCODE.replace("(model)", f'(model, precision="{precision}")'),
            tmp_path / "models",
            album,
            "tiny",
            json.dumps(["a"] * 2),
        )
        for precision in ("fp32", "int8")
    )

    assert sorted(path.name for path in folder.iterdir()) == [
        "text_model.onnx",
        "vision_model.onnx",
        "vision_model_int8.onnx",
    ]
    cosine = (full["images"] * small["images"]).sum(1)
    assert 0.98 <= cosine.min() < 1 - 1e-6


def test_a_source_that_is_no_model_is_named(tmp_path, entry):
    from nearsight.errors import ModelError

    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="cannot be read as CLIPModel"):
        export_model(entry("tiny", "clip", "search"), tmp_path / "empty", folder=tmp_path / "models")
    with pytest.raises(ModelError, match="no exporter"):
        export_model(entry("tiny", "abacus", "search"), tmp_path / "empty", folder=tmp_path / "models")

    assert {path.name for path in (tmp_path / "models").iterdir()} <= {".tiny.lock"}, "nothing half made stays"
