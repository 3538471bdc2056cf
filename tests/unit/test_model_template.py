"""What a chat template does is found by rendering: turn not opened, end of turn, dates, system prompts, begin tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers

import tiny_models
from refusal_lens.errors import ModelError
from refusal_lens.interventions import doctor
from refusal_lens.model import LensModel, generate, load_model
from refusal_lens.model.template import examine_template
from refusal_lens.model.tokens import DATE, load_tokenizer, post_instruction_length, render

CHATML = tiny_models.TEMPLATE
TURNS, OPENING = CHATML[: CHATML.index("{% if add")], CHATML[CHATML.index("{% if add") :]


def _tokenizer(template: str) -> transformers.PreTrainedTokenizerFast:
    made = tiny_models.tokenizer()
    made.chat_template = template
    return made


def _found(template: str, ends: tuple[int, ...] = (tiny_models.END,)) -> tuple[int | None, str]:
    number, sentences = examine_template(_tokenizer(template), ends)
    return number, " | ".join(sentences)


def test_of_a_sound_template_nothing_is_said() -> None:
    assert _found(CHATML) == (None, "")


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}<|im_end|>"
        "{% endif %}{% endfor %}",
        CHATML.replace("assistant\n'", "assistant\n<think>\n'"),
    ],
    ids=["no opening of its own", "opens a block of thoughts"],
)
def test_templates_that_open_in_other_ways_are_sound(template: str) -> None:
    assert _found(template) == (None, "")


def test_a_turn_that_is_not_opened_is_said() -> None:
    number, said = _found(TURNS)
    assert number is None
    assert "does not open the assistant's turn" in said
    assert r"'<|im_start|>assistant\n' is missing" in said


def test_the_token_that_ends_a_turn_is_found() -> None:
    assert _found(CHATML, ends=(0,))[0] == tiny_models.END
    assert "ends a turn with '<|im_end|>'" in _found(CHATML, ends=(0,))[1]


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}assistant:",
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}{% endfor %}<|im_start|>assistant\n",
    ],
    ids=["no end", "plain words", "always opens the next turn"],
)
def test_an_end_of_turn_that_is_not_sure_is_not_taken(template: str) -> None:
    number, said = _found(template, ends=(0,))
    assert number is None
    assert "no token of its own" in said


def test_a_date_is_the_same_every_day_in_every_form(tmp_path: Path) -> None:
    tiny_models.tokenizer().save_pretrained(tmp_path)
    template = "{{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%-d %B, %A') }} {{ date_string }} " + CHATML
    (tmp_path / "chat_template.jinja").write_text(template)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.decode(render(tokenizer, ["hello"])[0]).startswith(f"2024-07-26 26 July, Friday {DATE} ")
    for own in (template, "{{ strftime_now('%d %b %Y') }} " + CHATML, "{{ date_string }} " + CHATML):
        (tmp_path / "chat_template.jinja").write_text(own)
        assert f"always {DATE}" in " ".join(examine_template(load_tokenizer(tmp_path), (tiny_models.END,))[1])


def test_a_system_prompt_of_its_own_is_said() -> None:
    own = (
        "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are a tiny helper.<|im_end|>\n' }}{% endif %}"
        + CHATML
    )
    assert "'You are a tiny helper.'" in _found(own)[1]


def test_two_begin_tokens_are_said() -> None:
    tokenizer = _tokenizer("<|endoftext|><|endoftext|>" + CHATML)
    tokenizer.bos_token = "<|endoftext|>"
    assert "twice" in " ".join(examine_template(tokenizer, (tiny_models.END,))[1])


def test_a_template_that_takes_only_lists_of_parts_is_refused() -> None:
    template = (
        "{% for m in messages %}{% for c in m.content %}<|im_start|>{{ c.text }}<|im_end|>{% endfor %}{% endfor %}end"
    )
    with pytest.raises(ModelError, match="list of parts"):
        post_instruction_length(_tokenizer(template))


def _model(folder: Path, **changes: object) -> LensModel:
    tiny_models.build("llama", folder)
    for name in ("config.json", "generation_config.json"):
        file = folder / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    changed = {"eos_token": "<|endoftext|>", "extra_special_tokens": ["<|im_start|>", "<|im_end|>"]}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, **changed}))
    return load_model(str(folder))


def test_an_answer_ends_where_its_turn_ends(tmp_path: Path) -> None:
    """The configuration names another end token than the template writes; doctor says so, and answers end."""
    model = _model(tmp_path, eos_token_id=tiny_models.PAD)
    assert model.end_ids == (tiny_models.PAD, tiny_models.END)
    assert any("ends a turn with '<|im_end|>'" in hint for hint in doctor(model).hints)
    assert any("ends a turn" in sentence for sentence in model.provenance.template)
    with model.edited([]):
        head = model.hf.get_output_embeddings().weight
        head.data[tiny_models.END] = (
            head.data.abs().max() * 10
        )  # the end token follows everything, or its opposite does
        answers = [generate(model, [text], max_new_tokens=3)[0] for text in ("What is 7 + 5?", "Tell me")]
    assert all(answer.finished == (answer.token_ids[-1] in model.end_ids) for answer in answers)
