"""Language models of the real architectures: without torch they read the same logits and say the same tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_captioners as tiny
import torch
import transformers

from nearsight.exporting import export_model

if TYPE_CHECKING:
    from pathlib import Path

LONGEST = 20
LEAST_KINDS = 8
TALKS = {
    "one": [("user", "What is in the picture?")],
    "system": [("system", "Answer in JSON."), ("user", "Was there a red truck at gate-3?")],
    "long": [("user", "hi"), ("assistant", "Hello!"), ("user", "那只狗在哪里？")],
}
# As the tokenizers of the real models have them; only what a conversation without tools and thoughts needs.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)
TEMPLATES = {
    "qwen2": "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. "
    "You are a helpful assistant.<|im_end|>\n{% endif %}" + CHATML,
    "qwen3": CHATML + "{{ '<think>\n\n</think>\n\n' }}",
    "llama": "<s>{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}</s>\n{% endfor %}"
    "{{ '<|assistant|>\n' }}",
}

REPLY = """
    import json, sys
    from dataclasses import replace
    from nearsight.engine import Engine
    from nearsight.families.generation import greedy
    from nearsight.families.lookup import leaf

    engine = Engine.shared("tiny", capability="plan")
    language = leaf(engine.manifest)
    for name, talk in json.loads(sys.argv[2]).items():
        speech = language.speech(engine, [tuple(message) for message in talk], [], longest=20)
        seen = []

        def scorer(ids, rows):
            seen.append(speech.scorer(ids, rows))
            return seen[-1]

        found[f"prompt-{name}"] = np.array(speech.prompt)
        rules = replace(speech.rules, never=speech.rules.ends)
        found[f"tokens-{name}"] = np.array(list(greedy(scorer, speech.prompt, rules)))
        found[f"logits-{name}"] = np.concatenate(seen)
        found[f"text-{name}"] = np.array("".join(language.reply(engine, [tuple(m) for m in talk], [], longest=20)))
"""


@pytest.fixture(scope="module", params=["qwen2", "qwen3", "llama"])
def spoken(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, entry: Any
) -> tuple[str, Path, Path]:
    """Save and export one: its architecture, its folder on the hub, the models folder."""
    home = tmp_path_factory.mktemp(request.param)
    source = tiny.language(home / "source", {"qwen2": "Qwen2", "qwen3": "Qwen3", "llama": "Llama"}[request.param])
    export_model(entry("tiny", request.param, "plan"), source, folder=home / "models")
    return request.param, source, home / "models"


def test_a_conversation_is_read_and_gone_on_with_as_transformers_does(spoken, torchless):
    architecture, source, models = spoken
    words = transformers.AutoTokenizer.from_pretrained(source)
    model = transformers.AutoModelForCausalLM.from_pretrained(source)

    found = torchless(REPLY, models, json.dumps(TALKS))

    said = []
    for name, talk in TALKS.items():
        messages = [{"role": who, "content": what} for who, what in talk]
        text = words.apply_chat_template(messages, chat_template=TEMPLATES[architecture], tokenize=False)
        prompt = words(text, add_special_tokens=False, return_tensors="pt")
        wishes = {"do_sample": False, "max_new_tokens": LONGEST, "return_dict_in_generate": True, "output_logits": True}
        answer = model.generate(**prompt, **wishes, min_new_tokens=LONGEST)
        ends = model.generate(**prompt, **wishes).sequences[0, prompt["input_ids"].shape[1] :]
        assert found[f"prompt-{name}"].tolist() == prompt["input_ids"][0].tolist()
        np.testing.assert_allclose(found[f"logits-{name}"], torch.cat(answer.logits).numpy(), atol=1e-3)
        assert found[f"tokens-{name}"].tolist() == answer.sequences[0, prompt["input_ids"].shape[1] :].tolist()
        assert str(found[f"text-{name}"]) == words.decode(ends, skip_special_tokens=True).strip()
        said.append(tuple(found[f"tokens-{name}"].tolist()))
    assert len(set(said)) == len(TALKS)
    assert max(len(set(tokens)) for tokens in said) >= LEAST_KINDS


def test_answers_side_by_side_are_those_of_one_alone(spoken, torchless):
    """Rows of a batch keep apart: three beams of the exported decoder against transformers."""
    _, source, models = spoken
    model = transformers.AutoModelForCausalLM.from_pretrained(source)
    code = """
        import json, sys
        from nearsight.engine import Engine
        from nearsight.families.generation import beamed
        from nearsight.families.lookup import leaf

        engine = Engine.shared("tiny", capability="plan")
        speech = leaf(engine.manifest).speech(engine, [("user", "two dogs")], [], longest=12)
        found["prompt"] = np.array(speech.prompt)
        found["tokens"] = np.array(beamed(speech.scorer, speech.prompt, speech.rules, 3), np.int64)
    """

    found = torchless(code, models)

    prompt = torch.tensor(found["prompt"])[None]
    answer = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=12, num_beams=3
    )
    new = answer[0, prompt.shape[1] :].tolist()
    ends = model.generation_config.eos_token_id
    stop = next((at for at, token in enumerate(new) if token in ends), len(new))
    assert found["tokens"].tolist() == new[:stop]
