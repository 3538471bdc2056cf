"""A chat template's own switch for thinking is found by rendering, and set so that every later render agrees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
import transformers

import tiny_models
from refusal_lens.errors import ModelError
from refusal_lens.model import check_source, fingerprint, identify, load_model
from refusal_lens.model.switch import find_switch, set_thinking
from refusal_lens.model.tokens import load_tokenizer, post_instruction_length, render

CHATML = tiny_models.TEMPLATE
TURNS = CHATML[: CHATML.index("{% if add")]
OPENING = "{% if add_generation_prompt %}<|im_start|>assistant\n"
EMPTY = "<think>\n\n</think>\n\n"
QWEN3 = (
    TURNS
    + OPENING
    + (
        "{%- if enable_thinking is defined and enable_thinking is false %}{{- '\n"
        + EMPTY
        + "' }}{%- endif %}{%- endif %}"
    )
)
TEMPLATES = {
    "thinks unless told": (QWEN3, ("enable_thinking", True, False, "on")),
    "does not think unless told": (
        "{% if not thinking is defined %}{% set thinking = false %}{% endif %}"
        + TURNS + OPENING + "{% if thinking %}<think>{% else %}</think>{% endif %}{% endif %}",
        ("thinking", True, False, "off"),
    ),
    "inverted": (
        TURNS + OPENING + "{% if disable_thinking %}<think></think>{% else %}<think>\n{% endif %}{% endif %}",
        ("disable_thinking", False, True, "on"),
    ),
    "inverted, told by its name": (
        "{% if not no_thinking %}<|im_start|>system\nthink<|im_end|>{% endif %}" + CHATML,
        ("no_thinking", False, True, "on"),
    ),
    "a system prompt, told by its name": (
        "{% if reasoning | default(false) %}<|im_start|>system\nthink<|im_end|>{% endif %}" + CHATML,
        ("reasoning", True, False, "off"),
    ),
    "words": (
        TURNS + OPENING + "{% if reasoning_effort in ['none', 'minimal'] %}<think></think>{% endif %}{% endif %}",
        ("reasoning_effort", "on", "none", "on"),
    ),
    "inside a macro, with a block of transformers' own": (
        "{% macro end() %}{% if enable_thinking == false %}<think></think>{% endif %}{% endmacro %}"
        "{% generation %}{% endgeneration %}" + TURNS + OPENING + "{{ end() }}{% endif %}",
        ("enable_thinking", True, False, "on"),
    ),
}  # fmt: skip
WITHOUT = {
    "no variable": CHATML,
    "an amount that is written out": "{{ reasoning_effort | default('medium') }}" + CHATML,
    "an amount that must be a word": "{{ 'Reasoning: ' + (reasoning_effort or 'medium') }}" + CHATML,
    "earlier turns alone": "{% if preserve_thinking and messages | length > 1 %}<think>{% endif %}" + CHATML,
    "another switch": "{% if strict_mode %}<think>{% endif %}" + CHATML,
}


def _tokenizer(template: str) -> transformers.PreTrainedTokenizerFast:
    made = tiny_models.tokenizer()
    made.chat_template = template
    return made


def _text(tokenizer: transformers.PreTrainedTokenizerFast, **values: object) -> str:
    chat = [{"role": "user", "content": "Tell me"}]
    return cast("str", tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False, **values))


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_switch_is_found_with_its_values_and_its_default(name: str) -> None:
    template, (variable, on, off, default) = TEMPLATES[name]
    found = find_switch(_tokenizer(template))
    assert found is not None
    assert found == (variable, on, off, default)


@pytest.mark.parametrize("name", WITHOUT)
def test_what_is_no_switch_is_refused_with_the_reason(name: str) -> None:
    tokenizer = _tokenizer(WITHOUT[name])
    assert find_switch(tokenizer) is None
    for thinking in ("on", "off"):
        with pytest.raises(ModelError, match="has no switch for thinking"):
            set_thinking(tokenizer, thinking)
    set_thinking(tokenizer, "auto")
    assert tokenizer.chat_template == WITHOUT[name]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_switched_template_renders_what_the_value_passed_to_transformers_renders(name: str) -> None:
    """Whatever a later caller passes: the template itself is set. Its own first characters stay."""
    template, (variable, on, off, _) = TEMPLATES[name]
    for thinking, value in (("on", on), ("off", off)):
        switched = _tokenizer(f" \n{template}")
        set_thinking(switched, thinking)
        wanted = _text(_tokenizer(f" \n{template}"), **{variable: value})
        assert _text(switched) == _text(switched, **{variable: not value}) == wanted


def test_positions_after_an_empty_block_of_thoughts_are_found(tmp_path: Path) -> None:
    tokenizer = _tokenizer(QWEN3)
    before = post_instruction_length(tokenizer)
    set_thinking(tokenizer, "off")
    tail = tokenizer.encode("\n" + EMPTY, add_special_tokens=False)
    assert render(tokenizer, ["Tell me"])[0][-len(tail) :] == tail
    assert post_instruction_length(tokenizer) == before + len(tail)


def test_a_loaded_model_says_how_it_was_switched(tmp_path: Path) -> None:
    folder = tiny_models.build("llama", tmp_path)
    (folder / "chat_template.jinja").write_text(QWEN3)
    plain, off = load_model(str(folder)), load_model(str(folder), thinking="off")
    assert "switch for thinking, enable_thinking, by default on" in " ".join(plain.provenance.template)
    assert (plain.provenance.thinking, off.provenance.thinking) == ("auto", "off")
    assert len(off.positions) > len(plain.positions)
    assert plain.provenance.template_digest != off.provenance.template_digest
    assert identify(plain) == fingerprint(str(folder))
    assert identify(off) == fingerprint(str(folder), thinking="off") != identify(plain)
    assert load_tokenizer(folder).chat_template == QWEN3


def test_a_model_without_a_switch_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    folder = tiny_models.build("llama", tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(json.dumps({}).encode())
    with pytest.raises(ModelError):
        check_source(str(folder), thinking="off")
