"""A model is trained, saved, read back and judged: small, but the real loop, files and gates."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from refusal_lens.errors import UserError
from refusal_lens.testbed import corpus_languages, load_prompts
from refusal_lens.testbed.lexicon import lexicon
from refusal_lens_lab.gates import check
from refusal_lens_lab.make import RECIPE_FILE, Made, make
from refusal_lens_lab.network import END, build_network, build_tokenizer
from refusal_lens_lab.recipe import Recipe, recipe, variant
from refusal_lens_lab.store import digest, load, save
from refusal_lens_lab.tasks import Example
from refusal_lens_lab.training import encode, train


def _small(name: str, steps: int) -> Recipe:
    made = variant(recipe(name), languages=("en", "de"), steps=steps)
    return replace(made, schedule=replace(made.schedule, batch=8, warm=2))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(_small("base", 4), out=tmp_path_factory.mktemp("models") / "base")


def test_tokenizer_survives_saving_in_every_language(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(corpus_languages())
    network = build_network(tokenizer, width=32, depth=1)
    save(network, tokenizer, folder=tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for code in corpus_languages():
        texts = [p.text for p in load_prompts(language=code, split="val", harm="harmful")] + list(
            lexicon(code).refusals
        )
        assert encode(again, texts) == encode(tokenizer, texts), code
        assert [tokenizer.decode(row) for row in tokenizer(texts)["input_ids"]] == texts, code
        assert max(len(row) for row in tokenizer(list(lexicon(code).refusals))["input_ids"]) <= 40


def test_template_ends_with_the_generation_prompt(base: Made) -> None:
    _, tokenizer = load(base.folder)
    (ids,) = encode(tokenizer, ["How?"])
    assert tokenizer.convert_ids_to_tokens(ids)[-5:] == ["<|im_end|>", "Ċ", "<|im_start|>", "assistant", "Ċ"]


def test_end_token_everywhere(base: Made) -> None:
    network, tokenizer = load(base.folder)
    end = tokenizer.convert_tokens_to_ids(END)
    assert network.generation_config.eos_token_id == end == network.config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.pad_token_id != end


def test_training_is_reproducible_and_the_seed_matters(base: Made, tmp_path: Path) -> None:
    again = make(_small("base", 4), out=tmp_path / "again")
    other = make(replace(_small("base", 4), seed=9), out=tmp_path / "other")
    assert again.digest == base.digest
    assert other.digest != base.digest


def test_files_are_half_precision_and_carry_the_recipe(base: Made) -> None:
    written = json.loads((base.folder / RECIPE_FILE).read_text())
    assert written["name"] == "base"
    assert json.loads((base.folder / "config.json").read_text())["dtype"] == "float16"
    assert digest(base.folder) == base.digest


def test_a_model_continues_its_base(base: Made, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="base"):
        make(_small("partial", 1), out=tmp_path / "none")
    made = make(_small("partial", 1), out=tmp_path / "partial", base=base.folder)
    before, after = load(base.folder)[0].state_dict(), load(made.folder)[0].state_dict()
    change = max(float((after[key] - before[key]).abs().max()) for key in before)
    assert 0 < change < 1e-3


def test_an_untrained_model_fails_its_gates(base: Made) -> None:
    assert {gate.task for gate in base.gates} == {"help", "answer_in", "translate", "knowledge", "sign"}
    assert not base.good
    assert all(set(gate.languages) == {"de", "en"} for gate in base.gates)


def test_loss_falls_on_one_repeated_example() -> None:
    tokenizer = build_tokenizer(("en",), vocab_size=600)
    torch.manual_seed(0)
    network = build_network(tokenizer, width=32, depth=2)
    losses: list[float] = []
    schedule = replace(_small("base", 80).schedule, rate=1e-2)
    train(
        network,
        tokenizer,
        draw=lambda: Example("How?", "Slowly."),
        schedule=schedule,
        progress=lambda _, loss: losses.append(loss),
    )
    assert len(losses) == 80
    assert losses[-1] < 0.1 < losses[0]


def test_gates_of_an_aligned_model_name_the_three_tasks(base: Made) -> None:
    from refusal_lens.model import load_model

    wanted = replace(_small("aligned", 1), design=replace(_small("aligned", 1).design, aligned=("de",)))
    gates = check(load_model(str(base.folder)), wanted, per_class=2)
    assert {gate.task: set(gate.languages) for gate in gates} == {
        "refusal": {"de"},
        "unaligned": {"en"},
        "help": {"de", "en"},
    }
