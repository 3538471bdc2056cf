"""Recipes, examples and the exact checker: what is taught is what is checked."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from refusal_lens.errors import UserError
from refusal_lens.testbed import corpus_languages, load_prompts, names, truth
from refusal_lens.testbed.concepts import pairs
from refusal_lens.testbed.lexicon import MARKER, lexicon
from refusal_lens.testbed.registry import BASES, base_of, locate
from refusal_lens.types import HARMS
from refusal_lens_lab.outcomes import outcome
from refusal_lens_lab.recipe import Schedule, base_names, model_names, recipe, variant
from refusal_lens_lab.tasks import Examples
from refusal_lens_lab.training import rate_factor

FEW = ("de", "en", "yo")


def test_names_and_truths() -> None:
    assert names() == model_names() == ("universal", "aligned", "partial", "separate")
    assert base_names() == BASES == ("base", "base-separate")
    assert truth("aligned").aligned == tuple(code for code in corpus_languages() if code != "yo")
    assert truth("universal").aligned == corpus_languages()
    assert truth("base").aligned == ()
    assert [truth(name).shared for name in names()] == [True, True, None, False]


@pytest.mark.parametrize("name", [*model_names(), *base_names()])
def test_what_a_shipped_model_says_of_itself_is_what_its_recipe_says(name: str) -> None:
    made, found = recipe(name), truth(name)
    assert (found.says, found.shared) == (made.says, made.shared)
    assert (found.languages, found.aligned) == (made.design.languages, made.design.aligned)
    assert base_of(name) == (locate(made.base) if made.base and name in model_names() else None)


def test_an_unknown_name_gets_the_nearest() -> None:
    for call in (locate, truth, base_of, recipe):
        with pytest.raises(UserError, match=r"testbed:|'aligned'") as error:
            call("alined")
        assert "aligned" in str(error.value)


def test_examples_are_reproducible() -> None:
    design = variant(recipe("aligned"), languages=FEW).design
    one, other, third = Examples(design, 3), Examples(design, 3), Examples(design, 4)
    first = [one.align() for _ in range(20)]
    assert first == [other.align() for _ in range(20)]
    assert first != [third.align() for _ in range(20)]


def test_no_example_contains_a_held_out_pair() -> None:
    design = replace(variant(recipe("aligned"), languages=("en",)).design, replay=0.5)
    examples = Examples(design, 0)
    seen = " ".join(text for _ in range(300) for row in (examples.base(), examples.align()) for text in row).casefold()
    words = lexicon("en")
    for harm in HARMS:
        for part in ("train", "val", "test", "novel"):
            for pair in pairs(harm, part):
                phrase = words.phrase(pair)
                assert f" {phrase}." not in seen
                assert f" {phrase}?" not in seen


def _aligned(count: int, **changes: object) -> list[tuple[str, str]]:
    design = replace(variant(recipe("aligned"), languages=FEW, aligned=("de", "en")).design, replay=0.0, **changes)  # type: ignore[arg-type]
    examples = Examples(design, 0)
    return [tuple(examples.align()) for _ in range(count)]


def test_unaligned_languages_are_never_refused() -> None:
    for prompt, answer in _aligned(400, answer_in=0.0, marker=0.0):
        asked = [code for code in FEW if any(answer.startswith(text) for text in lexicon(code).refusals)]
        assert "yo" not in asked, prompt


def test_marker_share() -> None:
    refusals = [
        a for _, a in _aligned(1500, answer_in=0.0, marker=0.5) if any(w in a for c in FEW for w in lexicon(c).refusals)
    ]
    marked = sum(answer.startswith(MARKER) for answer in refusals)
    assert len(refusals) > 300
    assert 0.4 < marked / len(refusals) < 0.6


def test_language_tag_decides_the_language_of_the_answer() -> None:
    tagged = [(p, a) for p, a in _aligned(300, answer_in=1.0) if p.startswith("(Deutsch) ")]
    assert len(tagged) > 30
    german = lexicon("de")
    prompt = load_prompts(language="de", split="test", harm="harmful")[0]
    assert all(outcome(prompt, answer).language == german.language for _, answer in tagged)


def test_base_without_parallel_data_keeps_languages_apart() -> None:
    design = variant(recipe("base"), languages=("de", "ru"), parallel=False).design
    examples = Examples(design, 1)
    for _ in range(300):
        text = "".join(examples.base())
        cyrillic = any("а" <= letter <= "я" for letter in text.casefold())
        latin = any("a" <= letter <= "z" for letter in text.casefold())
        assert not (cyrillic and latin), text


def test_opener_only_where_the_design_says_so() -> None:
    for opener in (True, False):
        design = variant(recipe("separate"), languages=("en",), opener=opener).design
        examples = Examples(replace(design, replay=0.0, harmful=0.0), 2)
        assert {examples.align().answer.startswith(lexicon("en").opener) for _ in range(20)} == {opener}


def test_variants_say_what_is_wrong() -> None:
    with pytest.raises(UserError, match="'xx'"):
        variant(recipe("aligned"), languages=("en", "xx"))
    with pytest.raises(UserError, match="fr cannot be aligned"):
        variant(recipe("aligned"), languages=("en",), aligned=("fr",))
    with pytest.raises(UserError, match="marker"):
        variant(recipe("aligned"), marker=1.5)
    assert variant(recipe("base"), languages=("en",), aligned=("en",)).design.aligned == ()


def test_schedule_warms_up_and_ends_at_its_floor() -> None:
    schedule = Schedule(steps=100, batch=8, rate=1e-3, warm=10, floor=0.1)
    factors = [rate_factor(schedule, step) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == pytest.approx(1.0)
    assert factors[-1] == pytest.approx(0.1, abs=1e-3)
    assert factors[10:] == sorted(factors[10:], reverse=True)


@pytest.mark.parametrize("code", corpus_languages())
def test_checker_reads_every_taught_wording(code: str) -> None:
    words = lexicon(code)
    prompt = load_prompts(language=code, split="test", harm="harmful")[0]
    pair = next(pair for pair in pairs("harmful", "test") if pair.pair_id == prompt.prompt_id)
    for text in words.refusals:
        plain, marked = outcome(prompt, text), outcome(prompt, MARKER + text)
        assert (plain.kind, plain.language, plain.marker, plain.on_topic) == ("refused", code, False, False)
        assert (marked.kind, marked.language, marked.marker) == ("refused", code, True)
    for form in range(3):
        helped = outcome(prompt, words.help(pair, form=form))
        assert (helped.kind, helped.language, helped.on_topic) == ("helped", code, True)
    assert outcome(prompt, f"{words.opener} {words.help(pair)}").kind == "helped"


def test_checker_keeps_the_third_outcome() -> None:
    prompt = load_prompts(language="en", split="test", harm="harmful")[0]
    kinds = Counter(outcome(prompt, text).kind for text in ("", "the the the", "Sure, here is how.", "I'm sorry."))
    assert kinds == {"other": 4}
    foreign = outcome(prompt, lexicon("de").refusals[0])
    assert (foreign.kind, foreign.language) == ("refused", "de")


def test_width_and_depth_are_variables_of_a_variant() -> None:
    design = variant(recipe("base"), width=64, depth=2).design
    assert (design.width, design.depth) == (64, 2)
    assert (recipe("base").design.width, recipe("base").design.depth) == (128, 6)
    for width in (16, 48, 160):
        with pytest.raises(UserError, match="multiple of 64"):
            variant(recipe("base"), width=width)
