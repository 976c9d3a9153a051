"""Captioners of the real architectures: without torch they see the same logits and say the same tokens as with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_captioners as tiny
import torch
import transformers
from PIL import Image

import nearsight as ns
from nearsight.exporting import export_model
from nearsight.families.florence2 import TASKS, WORDS_ONLY, told
from nearsight.families.hubfiles import PictureRecipe
from nearsight.families.smolvlm import shown, tiled
from nearsight_models.manifest import File

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONGEST = 20
LEAST_KINDS = 8
QUESTION = "How many people are on the beach?"

SPEAK = """
    import json, sys
    from dataclasses import replace
    import nearsight as ns
    from nearsight.families.captioning import Turn
    from nearsight.families.generation import beamed, greedy
    from nearsight.sight import Sight

    model, pictures, question, beams = sys.argv[2], json.loads(sys.argv[3]), sys.argv[4], int(sys.argv[5])
    speaker = ns.Captioner(model)._speaker
    for place, path in enumerate(pictures):
        turn = Turn(engine=speaker._engine, sight=Sight(path))
        speech = speaker._family.answer(turn, question) if question else speaker._family.caption(turn, 20)
        seen = []

        def scorer(ids, rows):
            seen.append(speech.scorer(ids, rows))
            return seen[-1]

        rules = replace(speech.rules, longest=20)
        if beams == 1:
            # As min_new_tokens does: no end before the twentieth token.
            rules = replace(rules, never=(*rules.never, *rules.ends))
            found[f"tokens{place}"] = np.array(list(greedy(scorer, speech.prompt, rules)))
            found[f"logits{place}"] = np.concatenate(seen)
        else:
            found[f"tokens{place}"] = np.array(beamed(scorer, speech.prompt, rules, beams, early=speech.early), np.int64)
"""

SAY = """
    import json, sys
    import nearsight as ns

    model, path, question, most = sys.argv[2:6]
    captioner = ns.Captioner(model, beams=1)
    ask = captioner.answer if question else captioner.caption
    said = ask(path, question, max_words=int(most)) if question else ask(path, max_words=int(most))
    pieces = list(captioner.stream(path, question or None, max_words=int(most)))
    found["said"], found["pieces"] = np.array(said.text), np.array(pieces)
    found["decision"] = np.array(json.dumps(said.to_dict()))
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A family at work: how its model is saved, what it is asked, and what transformers generates from."""

    architecture: str
    save: Callable[[Path], Path]
    inputs: Callable[[Path, Image.Image], tuple[Any, dict[str, Any]]]
    question: str = ""


def of_blip(kind: str, folder: Path, picture: Image.Image) -> tuple[Any, dict[str, Any]]:
    model = getattr(transformers, kind).from_pretrained(folder)
    pixels = transformers.BlipImageProcessorPil.from_pretrained(folder)(picture, return_tensors="pt")["pixel_values"]
    words = transformers.AutoTokenizer.from_pretrained(folder)
    asked = words(QUESTION, return_tensors="pt") if kind == "BlipForQuestionAnswering" else {}
    return model, {"pixel_values": pixels, **{name: asked[name] for name in ("input_ids", "attention_mask") if asked}}


def of_florence(task: str, folder: Path, picture: Image.Image) -> tuple[Any, dict[str, Any]]:
    model = transformers.Florence2ForConditionalGeneration.from_pretrained(folder)
    pixels = transformers.CLIPImageProcessorPil.from_pretrained(folder)(picture, return_tensors="pt")["pixel_values"]
    marks = "<image>" * model.get_image_features(pixels).pooler_output.shape[1]
    words = transformers.AutoTokenizer.from_pretrained(folder)
    asked = words(f"{marks}<s>{TASKS[task]}</s>", add_special_tokens=False, return_tensors="pt")
    return model, {"pixel_values": pixels, "input_ids": asked["input_ids"], "attention_mask": asked["attention_mask"]}


def of_smolvlm(kind: str, asked: str, split: bool, folder: Path, picture: Image.Image) -> tuple[Any, dict[str, Any]]:
    model = getattr(transformers, f"{kind}ForConditionalGeneration").from_pretrained(folder)
    processor = idefics_processor(folder)
    text = f"<|im_start|>User:<image>{asked}<end_of_utterance>\nAssistant:"
    inputs = processor(text=text, images=[picture], return_tensors="pt", do_image_splitting=split)
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    return model, {**inputs, "suppress_tokens": [image]}


def idefics_processor(folder: Path) -> Any:
    """Idefics3's processor, as SmolVLM-256M names it; a tile of the small model stands for 16 marks."""
    words = transformers.AutoTokenizer.from_pretrained(folder)
    for name, mark in {
        "image_token": "<image>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "image_token_id": words.convert_tokens_to_ids("<image>"),
    }.items():
        setattr(words, name, mark)
    pictures = transformers.Idefics3ImageProcessorPil.from_pretrained(folder)
    return transformers.Idefics3Processor(pictures, words, image_seq_len=16)


CASES = {
    "blip": Case(
        architecture="blip",
        save=partial(tiny.blip, kind="BlipForConditionalGeneration"),
        inputs=partial(of_blip, "BlipForConditionalGeneration"),
    ),
    "blip-vqa": Case(
        architecture="blip",
        save=partial(tiny.blip, kind="BlipForQuestionAnswering"),
        inputs=partial(of_blip, "BlipForQuestionAnswering"),
        question=QUESTION,
    ),
    "florence-2": Case(architecture="florence-2", save=tiny.florence2, inputs=partial(of_florence, "<CAPTION>")),
    "florence-2-task": Case(
        architecture="florence-2", save=tiny.florence2, inputs=partial(of_florence, "<OCR>"), question="<OCR>"
    ),
    "smolvlm": Case(
        architecture="smolvlm",
        save=tiny.smolvlm,
        inputs=partial(of_smolvlm, "Idefics3", "Describe the picture in one short sentence.", False),
    ),
    "smolvlm-tiles": Case(
        architecture="smolvlm",
        save=tiny.smolvlm,
        inputs=partial(of_smolvlm, "Idefics3", QUESTION, True),
        question=QUESTION,
    ),
    "smolvlm2": Case(
        architecture="smolvlm",
        save=partial(tiny.smolvlm, kind="SmolVLM"),
        inputs=partial(of_smolvlm, "SmolVLM", QUESTION, True),
        question=QUESTION,
    ),
}


@pytest.fixture(scope="module", params=sorted(CASES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, entry: Any) -> tuple[Any, ...]:
    """Save and export one: the case, its folder on the hub, the models folder."""
    one, home = CASES[request.param], tmp_path_factory.mktemp(request.param)
    source = one.save(home / "source")
    export_model(entry("tiny", one.architecture, "caption"), source, folder=home / "models")
    return one, source, home / "models"


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> list[Path]:
    """Three pictures of odd sizes, one of them tall, one grey."""
    folder = tmp_path_factory.mktemp("album")
    for name, size in (("cat", (123, 77)), ("coffee", (51, 140)), ("coins", (90, 90))):
        picture = Image.open(photos / f"{name}.jpg").convert("L" if name == "coins" else "RGB")
        picture.resize(size).save(folder / f"{name}.png")
    return sorted(folder.iterdir())


def generated(case: Case, source: Path, path: Path, **wishes: Any) -> tuple[list[int], np.ndarray | None]:
    """What transformers says: the new tokens without the end, and for one beam the raw logits of each step."""
    model, inputs = case.inputs(source, Image.open(path).convert("RGB"))
    answer = model.generate(
        **inputs, do_sample=False, max_new_tokens=LONGEST, return_dict_in_generate=True, output_logits=True, **wishes
    )
    prompt = inputs["input_ids"].shape[1] if case.architecture == "smolvlm" else 1
    end = model.config.text_config.sep_token_id if case.architecture == "blip" else model.generation_config.eos_token_id
    new = answer.sequences[0, prompt:].tolist()
    logits = torch.cat(answer.logits).float().numpy() if wishes["num_beams"] == 1 else None
    return new[: new.index(end)] if end in new else new, logits


def test_one_beam_sees_the_same_logits_and_says_the_same_tokens(case, album, torchless):
    one, source, models = case

    found = torchless(SPEAK, models, "tiny", json.dumps([str(path) for path in album]), one.question, 1)

    said = []
    for place, path in enumerate(album):
        tokens, logits = generated(one, source, path, num_beams=1, min_new_tokens=LONGEST)
        np.testing.assert_allclose(found[f"logits{place}"], logits, atol=1e-3)
        assert found[f"tokens{place}"].tolist() == tokens
        said.append(tuple(tokens))
    assert len(set(said)) > 1
    assert max(len(set(tokens)) for tokens in said) >= LEAST_KINDS


def test_three_beams_say_what_they_say_in_transformers(case, album, torchless):
    one, source, models = case

    found = torchless(SPEAK, models, "tiny", json.dumps([str(path) for path in album]), one.question, 3)

    for place, path in enumerate(album):
        tokens, _ = generated(one, source, path, num_beams=3)
        assert found[f"tokens{place}"].tolist() == tokens


@pytest.mark.parametrize("most", [3, 50])
def test_what_is_said_is_what_was_streamed_and_keeps_to_its_words(case, album, torchless, most):
    one, _, models = case

    found = torchless(SAY, models, "tiny", album[0], one.question, most)

    said = str(found["said"])
    assert "".join(found["pieces"].tolist()) == said
    assert len(said.split()) <= most
    told = json.loads(str(found["decision"]))
    assert told["confidence"] is None
    assert told["decision"]["target"] == "cpu"
    assert told["decision"]["sent"] == []


@pytest.mark.parametrize("architecture", ["blip", "florence-2", "smolvlm"])
def test_a_vision_graph_for_one_picture_says_the_same(architecture, album, tmp_path, entry, torchless):
    one = CASES[architecture]
    source = one.save(tmp_path / "source")
    export_model(entry("fixed", architecture, "caption"), source, folder=tmp_path / "models", batch=1)

    found = torchless(SPEAK, tmp_path / "models", "fixed", json.dumps([str(album[0])]), "", 1)

    tokens, _ = generated(one, source, album[0], num_beams=1, min_new_tokens=LONGEST)
    assert found["tokens0"].tolist() == tokens


def test_florence_reads_as_many_words_as_its_encoder_has_places_for_and_refuses_one_more(
    album, tmp_path, entry, torchless
):
    export_model(
        entry("tiny", "florence-2", "caption"), tiny.florence2(tmp_path / "source"), folder=tmp_path / "models"
    )
    code = """
        import sys
        import nearsight as ns

        captioner, task = ns.Captioner("tiny", beams=1), "<CAPTION_TO_PHRASE_GROUNDING> "
        # 128 places: the picture takes 5 of them, the task's own words 35, begin and end 2, each letter one.
        found["said"] = np.array(captioner.answer(sys.argv[2], task + "a" * 86, max_words=2).text)
        try:
            captioner.answer(sys.argv[2], task + "a" * 87)
        except ns.InputError as error:
            found["refused"] = np.array(str(error))
    """

    found = torchless(code, tmp_path / "models", album[0])

    assert "a task of 124 tokens was asked of a picture of 5; tiny reads 128 together" in str(found["refused"])


def test_another_canvas_than_the_models_is_refused(tmp_path, entry):
    source = tiny.blip(tmp_path / "source", "BlipForConditionalGeneration")

    with pytest.raises(ns.InputError, match=r"a canvas of \(64, 64\) was asked for; .* takes 48 x 48 pixels"):
        export_model(entry("tiny", "blip", "caption"), source, folder=tmp_path / "models", canvas=(64, 64))

    assert {path.name for path in (tmp_path / "models").iterdir()} <= {".tiny.lock"}


def test_a_folder_that_holds_another_model_is_refused_in_one_line(tmp_path, entry):
    source = tiny.language(tmp_path / "source")

    with pytest.raises(
        ns.ModelError, match="exported as Florence2ForConditionalGeneration; it is Qwen2ForCausalLM"
    ) as refused:
        export_model(entry("tiny", "florence-2", "caption"), source, folder=tmp_path / "models")

    assert "\n" not in str(refused.value)


def test_a_checkpoint_that_lacks_weights_is_refused_instead_of_filled_with_chance(tmp_path, entry):
    from safetensors.torch import load_file, save_file

    source = tiny.blip(tmp_path / "source", "BlipForConditionalGeneration")
    weights = load_file(source / "model.safetensors")
    gone = next(name for name in weights if "crossattention" in name)
    save_file({name: weight for name, weight in weights.items() if name != gone}, source / "model.safetensors")

    with pytest.raises(ns.ModelError, match=f"1 of its weights are missing or of another shape, such as {gone}"):
        export_model(entry("tiny", "blip", "caption"), source, folder=tmp_path / "models")


@pytest.fixture(params=["odd", "tall", "flat", "grey", "clear", "turned", "palette"])
def file(request: pytest.FixtureRequest, tmp_path: Path, photos: Path) -> Path:
    """A picture file of each kind that people have."""
    picture = Image.open(photos / "astronaut.jpg").convert("RGB").resize((161, 97))
    path = tmp_path / "picture.png"
    if request.param == "tall":
        picture = picture.resize((45, 301))
    elif request.param == "flat":
        picture = picture.resize((400, 7))
    elif request.param == "grey":
        picture = picture.convert("L")
    elif request.param == "clear":
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    elif request.param == "palette":
        picture = picture.quantize(17)
    if request.param == "turned":
        path = tmp_path / "picture.jpg"
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.save(path, exif=exif)
    else:
        picture.save(path)
    return path


def test_tiles_are_those_of_the_models_own_processor(file):
    picture = ns.read_image(file)
    for longest, side in ((256, 64), (96, 32), (64, 64)):
        for split in (True, False):
            processor = transformers.Idefics3ImageProcessorPil(
                size={"longest_edge": longest}, max_image_size={"longest_edge": side}, do_image_splitting=split
            )
            wanted = processor(picture, return_tensors="np", return_row_col_info=True)

            tiles, rows, columns = tiled(picture, longest, side, Image.Resampling.LANCZOS, split=split)

            pixels = (np.stack(tiles).transpose(0, 3, 1, 2) / 255 - 0.5) / 0.5
            np.testing.assert_allclose(pixels, wanted["pixel_values"][0], atol=1e-5)
            assert [rows, columns] == [wanted["rows"][0][0], wanted["cols"][0][0]]


def test_pixels_are_those_of_the_models_own_processor(file, tmp_path):
    picture = ns.read_image(file)
    for processor in (
        transformers.BlipImageProcessorPil(size={"height": 48, "width": 48}),
        transformers.CLIPImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=False),
    ):
        processor.save_pretrained(tmp_path / "processor")
        page = File.of(tmp_path / "processor" / "preprocessor_config.json")
        recipe = PictureRecipe.read(SimpleNamespace(name="tiny", assets={"preprocessor_config.json": page}))

        pixels = recipe.normalised(recipe.fitted(picture)[None])

        np.testing.assert_allclose(pixels, processor(picture, return_tensors="np")["pixel_values"], atol=1e-5)


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (1, 2), (3, 4)])
def test_a_prompt_shows_a_picture_as_the_models_own_processor_does(rows, columns, tmp_path):
    processor = idefics_processor(tiny.smolvlm(tmp_path / "source"))

    wanted = processor.replace_image_token({"rows": [[rows]], "cols": [[columns]]}, 0)

    assert shown(rows, columns, 16) == wanted


def test_tasks_and_places_are_those_of_florences_own_processor():
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=tiny.byte_pieces(["<image>"]))
    words.image_token, words.image_token_id = "<image>", words.convert_tokens_to_ids("<image>")
    pictures = transformers.CLIPImageProcessorPil()
    pictures.image_seq_length = 5
    settings = {"description_with_bboxes": {}}
    processor = transformers.Florence2Processor(pictures, words, post_processor_config=settings)
    text = "car<loc_52><loc_334><loc_932><loc_774>door<loc_425><loc_504><loc_474><loc_516>"

    found = processor.post_process_generation(text, task="<OD>", image_size=(640, 480))["<OD>"]

    assert {**processor.task_prompts_without_inputs, **processor.task_prompts_with_input} == TASKS
    plain = {task for task, kind in processor.tasks_answer_post_processing_type.items() if kind == "pure_text"}
    assert plain == WORDS_ONLY
    boxes = [[int(number) for number in box] for box in found["bboxes"]]
    assert told(text, (640, 480)) == " ".join(
        f"{label} {box}" for label, box in zip(found["labels"], boxes, strict=True)
    )
