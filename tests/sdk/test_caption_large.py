"""A full-size captioner's way from picture to words, on a model that can be worked out by hand."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

import nearsight as ns
from nearsight.caption.large import sentence_end
from nearsight.cli.main import main

pytest.importorskip("onnx", reason="its graphs are written with onnx, which is not installed")
pytest.importorskip("tokenizers", reason="its words are cut by tokenizers, which is not installed")
sys.path.insert(0, str(Path(__file__).parent))
import tiny_speaker

if TYPE_CHECKING:
    from collections.abc import Callable

RED, BLUE = (200, 20, 20), (20, 20, 200)


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (20, 11)) -> Image.Image:
    return Image.new("RGB", size, colour)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEARSIGHT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def speaker(models: Path) -> Callable[..., ns.Captioner]:
    """Return a maker of captioners of the model, installed in one type of float."""

    def made(kind: str = "float32", **wishes: object) -> ns.Captioner:
        tiny_speaker.installed(models, kind)
        return ns.Captioner("tiny-speaker", **wishes)

    return made


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the roles of the graphs that were run, in order."""
    from nearsight.engine import Engine

    roles, run = [], Engine.run
    monkeypatch.setattr(Engine, "run", lambda self, role, *rest: roles.append(role) or run(self, role, *rest))
    return roles


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_what_is_said_follows_from_what_was_seen_and_said_before(speaker, kind):
    captioner = speaker(kind)

    assert captioner.caption(picture(RED)).text == "a red dog"
    assert captioner.caption(picture(BLUE)).text == "a blue dog"


def test_a_question_is_read_with_the_picture(speaker):
    captioner = speaker()

    assert captioner.answer(picture(RED), "many ?").text == "two dog"
    assert captioner.answer(picture(RED), "what ?").text == "a red dog"


def test_what_a_model_writes_cannot_steer_a_terminal(speaker, monkeypatch):
    word = "red\x1b[2J\x07"
    monkeypatch.setattr(tiny_speaker, "SPELLED", {"red": word})

    captioner = speaker()

    assert captioner.caption(picture(RED)).text == "a red[2J dog"
    assert "".join(captioner.stream(picture(RED))) == "a red[2J dog"


def test_a_stream_gives_the_words_as_they_come_and_returns_the_caption(speaker):
    spoken = speaker().stream(picture(BLUE))
    words = []
    while True:
        try:
            words.append(next(spoken))
        except StopIteration as end:
            said = end.value
            break

    assert words == ["a", " blue", " dog"]
    assert said.text == "a blue dog"


def test_several_beams_find_the_same_where_one_answer_is_far_likelier_and_stream_it_whole(speaker):
    captioner = speaker(beams=3)

    assert captioner.caption(picture(RED)).text == "a red dog"
    assert list(captioner.stream(picture(RED))) == ["a red dog"]


@pytest.mark.parametrize("beams", [1, 2])
def test_words_beyond_their_number_are_not_said(speaker, beams):
    captioner = speaker(beams=beams)

    assert captioner.caption(picture(RED), max_words=2).text == "a red"
    assert "".join(captioner.stream(picture(RED), max_words=2)) == "a red"


def test_nobody_judges_its_confidence_and_nano_checks_its_nouns(speaker, photos):
    captioner = speaker()

    caption = captioner.caption(photos / "coffee.jpg")
    answer = captioner.answer(photos / "coffee.jpg", "what ?")

    assert caption.confidence is None
    assert caption.grounding == (("dog", False),)
    assert answer.grounding == ()
    assert captioner.grounded(photos / "cat.jpg", "a cat") == (("cat", True),)


def test_the_decision_counts_every_run(speaker):
    said = speaker().caption(picture(RED))

    assert said.decision.target == "cpu"
    assert said.decision.precision == "fp32"
    assert said.decision.sent == ()
    # The picture, the prompt's vectors and each step's.
    assert said.decision.measured.bytes_in > 3 * 4 * tiny_speaker.SIDE**2


def test_one_look_serves_several_questions(speaker, ran):
    from nearsight.sight import Sight

    captioner, sight = speaker(), Sight(picture(RED))

    captioner.answer(sight, "many ?")
    captioner.answer(sight, "what ?")

    assert ran.count("vision") == 1


def test_a_memory_says_again_what_was_said_of_a_picture_that_looks_the_same(speaker, photos):
    captioner = speaker(reuse=0.97)

    first = captioner.caption(photos / "cat.jpg")
    again = captioner.caption(photos / "cat.jpg")
    other = captioner.answer(photos / "cat.jpg", "many ?")

    assert again.text == first.text
    assert [rung.target for rung in again.decision.rungs] == ["memory"]
    assert other.text == "two dog"


@pytest.mark.parametrize("stated", [{}, {"text_config": {"max_position_embeddings": 300}}])
def test_a_question_beyond_the_window_is_refused_with_both_numbers_before_anything_runs(
    speaker, monkeypatch, ran, stated
):
    monkeypatch.setattr(tiny_speaker, "CONFIG", stated)
    sees = 300 if stated else 2048
    captioner = speaker()

    with pytest.raises(ns.InputError, match=rf"question of \d+ tokens, .* sees {sees} together"):
        captioner.answer(picture(RED), "many " * sees)

    assert ran == []
    assert captioner.answer(picture(RED), "many ?").text == "two dog"


def test_florence_refuses_more_words_than_it_reads_before_anything_runs(models, speaker, monkeypatch, ran):
    monkeypatch.setattr(tiny_speaker, "CONFIG", {"text_config": {"max_position_embeddings": 64}})
    speaker()
    home = models / "tiny-speaker"
    recipe = {"size": {"height": 8, "width": 8}, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
    rewritten(home, "preprocessor_config.json", json.dumps(recipe).encode())
    page = home / "manifest.toml"
    page.write_text(page.read_text().replace('architecture = "smolvlm"', 'architecture = "florence-2"'))
    captioner = ns.Captioner("tiny-speaker")

    with pytest.raises(ns.InputError, match=r"a task of \d{4} tokens was asked; tiny-speaker reads 64 together"):
        captioner.answer(picture(RED), "<CAPTION_TO_PHRASE_GROUNDING> " + "dog " * 3000)

    assert ran == []


def test_tiles_count_as_part_of_the_window(speaker, monkeypatch, ran):
    tile = {"vision_config": {"image_size": 100, "patch_size": 5}, "scale_factor": 2}  # 100 vectors for each of three
    monkeypatch.setattr(tiny_speaker, "CONFIG", {"text_config": {"max_position_embeddings": 500}, **tile})

    with pytest.raises(ns.InputError, match=r"and a question of 3\d\d tokens, and an answer of 256, .* sees 500"):
        speaker().answer(picture(RED), "many ?")

    assert ran == []


@pytest.mark.parametrize("question", ["", "  \n", 3])
def test_a_blank_question_is_refused(speaker, question):
    with pytest.raises(ns.InputError, match="a question about the picture is needed"):
        speaker().answer(picture(RED), question)


def test_a_question_may_not_pretend_to_be_a_picture(speaker):
    with pytest.raises(ns.InputError, match="a question with <image> was asked"):
        speaker().answer(picture(RED), "what is <image>?")


def test_another_language_is_refused_with_those_there_are(speaker):
    with pytest.raises(ns.InputError, match="'zh' was asked for; tiny-speaker speaks en"):
        speaker().caption(picture(RED), "zh")


def test_its_confidence_has_nothing_to_be_calibrated_by(speaker):
    with pytest.raises(ns.InputError, match="only nano's confidence is calibrated"):
        speaker().evidence(picture(RED))


def test_a_captioner_says_whether_it_answers(speaker):
    assert speaker().answers
    assert not ns.Captioner().answers


def test_nano_answers_no_questions(photos):
    with pytest.raises(ns.InputError, match="nano-caption captions and answers none; take a model that answers"):
        ns.Captioner().answer(photos / "cat.jpg", "how many?")


def test_nano_streams_its_sentence_in_one_piece(photos):
    captioner = ns.Captioner()

    assert list(captioner.stream(photos / "cat.jpg")) == [captioner.caption(photos / "cat.jpg").text]


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_a_file_that_was_changed_is_refused_by_name(models, speaker, name):
    speaker()
    path = models / "tiny-speaker" / name
    path.write_text(path.read_text() + " ")

    with pytest.raises(ns.ModelError, match=name):
        ns.Captioner("tiny-speaker")


def test_preprocessing_that_cannot_be_followed_is_refused(models, speaker):
    speaker()
    home = models / "tiny-speaker"
    processor = json.loads((home / "preprocessor_config.json").read_text())
    rewritten(home, "preprocessor_config.json", json.dumps({**processor, "size": {}}).encode())

    with pytest.raises(ns.ModelError, match=r"preprocessor_config\.json of model 'tiny-speaker' cannot be followed"):
        ns.Captioner("tiny-speaker")


def test_a_vocabulary_without_the_marks_of_pictures_is_refused(models, speaker):
    speaker()
    home = models / "tiny-speaker"
    words = (home / "tokenizer.json").read_text().replace('"<image>"', '"<picture>"')
    rewritten(home, "tokenizer.json", words.encode())

    with pytest.raises(ns.ModelError, match="has no <image>"):
        ns.Captioner("tiny-speaker")


def rewritten(home: Path, name: str, data: bytes) -> None:
    """Change a file and the page that states it."""
    path, page = home / name, home / "manifest.toml"
    old = path.read_bytes()
    path.write_bytes(data)
    said = page.read_text().replace(hashlib.sha256(old).hexdigest(), hashlib.sha256(data).hexdigest())
    page.write_text(said.replace(f"bytes = {len(old)}", f"bytes = {len(data)}"))


def test_the_command_line_answers(speaker, tmp_path, capsys):
    speaker()
    picture(RED).save(tmp_path / "red.png")

    code = main(["caption", str(tmp_path / "red.png"), "--model", "tiny-speaker", "--ask", "many ?"])

    assert code == 0
    assert capsys.readouterr().out == "two dog\n"


def test_an_answer_in_a_pipe_is_one_line(speaker, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tiny_speaker, "SPELLED", {"red": "red\nand\tbig"})
    speaker()
    picture(RED).save(tmp_path / "red.png")

    main(["caption", str(tmp_path / "red.png"), "--model", "tiny-speaker", "--ask", "what ?"])

    assert capsys.readouterr().out == "a red and big dog\n"


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("A dog sits. It looks up", "A dog sits."),
        ("A dog sits! Red, it looks up", "A dog sits!"),
        ('A sign says "go." Cars stop', 'A sign says "go."'),
        ("A dog\nA cat", "A dog\n"),
        ("一只狗。一只猫", "一只狗。"),
        ("Mr. Smith stands before St. Paul's. It rains", "Mr. Smith stands before St. Paul's."),
        ("A team vs. Another, e.g. The Reds. It rains", "A team vs. Another, e.g. The Reds."),
        ("John F. Kennedy in the U.S. Senate? Yes", "John F. Kennedy in the U.S. Senate?"),
    ],
)
def test_a_caption_ends_with_its_first_sentence_and_not_with_an_abbreviation(text, first):
    assert text[: sentence_end(text)] == first


@pytest.mark.parametrize("text", ["A dog sits.", "A dog sits. ", "At 5 p.m. a dog", "No. 5", "Mr. Smith", "...", ""])
def test_a_sentence_that_may_go_on_has_no_end_yet(text):
    assert sentence_end(text) is None


def test_the_command_line_says_in_one_line_that_nano_answers_nothing(photos, capsys):
    code = main(["caption", str(photos / "cat.jpg"), "--ask", "how many?"])

    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "answers none" in err


def test_an_export_that_names_no_such_input_is_refused(models, speaker):
    """An export of another time: its decoder takes something that nobody here knows."""
    import onnx

    speaker()
    model = onnx.load(models / "tiny-speaker" / "onnx" / "decoder.onnx")
    model.graph.input.append(onnx.helper.make_tensor_value_info("cache_position", onnx.TensorProto.INT64, ["t"]))
    rewritten(models / "tiny-speaker", "onnx/decoder.onnx", model.SerializeToString())

    with pytest.raises(ns.ModelError, match="takes cache_position int64"):
        ns.Captioner("tiny-speaker").caption(picture(RED))
