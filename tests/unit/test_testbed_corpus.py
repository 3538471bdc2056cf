"""The corpus: fourteen complete parallel lexicons, disjoint parts, answers that can be checked."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from itertools import combinations
from pathlib import Path

import pytest

from refusal_lens.errors import UserError
from refusal_lens.testbed import corpus_languages, load_novel, load_prompts, on_topic
from refusal_lens.testbed.concepts import Part, concepts, pairs
from refusal_lens.testbed.lexicon import Lexicon, lexicon
from refusal_lens.types import HARMS, SPLITS, Split
from refusal_lens_lab.export import write_corpus

LANGUAGES = corpus_languages()
PARTS: tuple[Part, ...] = ("fit", "train", "val", "test", "novel", "base")


def test_fourteen_languages_of_the_paper() -> None:
    assert LANGUAGES == ("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo", "zh")


def test_sizes_of_the_concepts() -> None:
    known = concepts()
    assert len(known.acts["harmful"]) >= 30
    assert len(known.acts["harmless"]) >= 40
    assert len(known.objects) >= 40
    everything = [*known.acts["harmful"], *known.acts["harmless"], *known.objects]
    assert len(set(everything)) == len(everything)
    assert known.novel <= set(everything)


@pytest.mark.parametrize("code", LANGUAGES)
class TestLexicon:
    def test_says_every_concept_and_only_those(self, code: str) -> None:
        words, known = lexicon(code), concepts()
        assert set(words.acts) == {*known.acts["harmful"], *known.acts["harmless"]}
        assert set(words.objects) == set(known.objects)

    def test_no_two_concepts_share_a_text(self, code: str) -> None:
        words = lexicon(code)
        assert len(set(words.acts.values())) == len(words.acts)
        assert len({text for text, _ in words.objects.values()}) == len(words.objects)

    def test_forms_and_answers_have_their_slots(self, code: str) -> None:
        words = lexicon(code)
        assert len(words.forms) >= 8
        assert len(words.refusals) >= 3
        assert all(form.count("{a}") == 1 for form in words.forms)
        assert all("{a}" in text or "{A}" in text or ("{V}" in text and "{o}" in text) for text in words.helps)
        assert not any("{" in text for text in (*words.refusals, words.opener, words.yes, words.no))
        assert all(word.count("{o}") <= 1 for word in words.acts.values())

    def test_texts_are_composed_unicode(self, code: str) -> None:
        words = lexicon(code)
        texts = [*words.forms, *words.refusals, *words.helps, *words.acts.values(), words.tag]
        assert all(unicodedata.normalize("NFC", text) == text for text in texts)

    def test_a_topic_is_named_by_help_about_it_and_by_nothing_else(self, code: str) -> None:
        words = lexicon(code)
        helps = {pair.obj: words.help(pair) for pair in pairs("harmless", "fit")}
        assert len(helps) >= 30
        for obj in helps:
            topic = words.objects[obj][1]
            assert [other for other, text in helps.items() if words.mentions(topic, text)] == [obj]
            assert not words.mentions(topic, " ".join(words.refusals))

    def test_help_begins_with_content_not_with_one_opener(self, code: str) -> None:
        words = lexicon(code)
        starts = {words.help(pair)[:4] for pair in pairs("harmless", "val")}
        assert len(starts) >= 10

    def test_requests_are_filled(self, code: str) -> None:
        assert not any(
            "{" in p.text or "}" in p.text for h in HARMS for p in load_prompts(language=code, split="val", harm=h)
        )


def test_refusals_differ_between_languages() -> None:
    first = [lexicon(code).refusals[0] for code in LANGUAGES]
    assert len(set(first)) == len(LANGUAGES)


@pytest.mark.parametrize("harm", HARMS)
def test_parts_are_disjoint_and_cover_the_grid(harm: str) -> None:
    found = {part: {pair.pair_id for pair in pairs(harm, part)} for part in PARTS}  # type: ignore[arg-type]
    for one, other in combinations(PARTS, 2):
        assert not found[one] & found[other]
    assert len(found["test"]) >= 150
    assert len(found["train"]) >= 128
    assert len(found["val"]) >= 32
    novel = concepts().novel
    for part in ("fit", "train", "val", "test"):
        assert not any(piece in novel for pair_id in found[part] for piece in pair_id.split("."))


@pytest.mark.parametrize("split", SPLITS)
def test_prompts_are_parallel(split: Split) -> None:
    for harm in HARMS:
        ids = [p.prompt_id for p in load_prompts(language="en", split=split, harm=harm)]
        assert len(set(ids)) == len(ids)
        for code in ("de", "th", "yo"):
            prompts = load_prompts(language=code, split=split, harm=harm)
            assert [p.prompt_id for p in prompts] == ids
            assert {p.prompt_set for p in prompts} == {"testbed"}
            assert all(p.language == code and p.harm == harm and p.split == split for p in prompts)
            assert len({p.text for p in prompts}) == len(prompts)


def test_whole_prompt_set_loads_in_a_second_without_torch() -> None:
    program = """
import sys, time
start = time.process_time()
from refusal_lens.testbed import corpus_languages, load_prompts
count = sum(len(load_prompts(language=code, split=split, harm=harm)) for code in corpus_languages()
            for split in ("train", "val", "test") for harm in ("harmful", "harmless"))
assert "torch" not in sys.modules
print(count, time.process_time() - start)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    count, seconds = done.stdout.split()
    assert int(count) == 14 * 2 * (160 + 160 + 48)
    assert float(seconds) < 2


def test_selection_and_test_prompts_share_no_id() -> None:
    for harm in HARMS:
        test = {p.prompt_id for p in load_prompts(language="en", split="test", harm=harm)}
        for split in ("train", "val"):
            assert not test & {p.prompt_id for p in load_prompts(language="en", split=split, harm=harm)}


def test_novel_prompts_have_one_part_alignment_never_saw() -> None:
    prompts = load_novel(language="de", harm="harmful")
    assert {p.category for p in prompts} == {"novel-act", "novel-object"}
    fit = {piece for pair in pairs("harmful", "fit") for piece in (pair.act, pair.obj)}
    for prompt in prompts:
        assert sum(piece not in fit for piece in prompt.prompt_id.split(".")) == 1


def test_on_topic_wants_the_word_not_its_letters() -> None:
    prompt = next(p for p in load_prompts(language="pl", split="test", harm="harmless") if p.topic == "but")
    assert on_topic(prompt, "Naprawić but można łatwo.")
    assert on_topic(prompt, "Naprawić BUT można łatwo.")
    assert not on_topic(prompt, "Naprawić butelkę można łatwo.")
    korean = load_prompts(language="ko", split="test", harm="harmless")[0]
    assert on_topic(korean, f"{korean.topic}를 보세요")


def test_errors_name_the_value() -> None:
    with pytest.raises(UserError, match="'xx'"):
        load_prompts(language="xx", split="test", harm="harmful")


def test_corpus_files_are_identical_on_every_call(tmp_path: Path) -> None:
    first = write_corpus(tmp_path / "a", languages=("en", "yo"))
    write_corpus(tmp_path / "b", languages=("en", "yo"))
    for path, count in first.items():
        content = path.read_bytes()
        assert content == (tmp_path / "b" / path.name).read_bytes()
        rows = [json.loads(line) for line in content.decode().splitlines()]
        assert len(rows) == count
        assert {row["part"] for row in rows} == set(PARTS)


def test_phrase_puts_the_object_in_its_place() -> None:
    def said(code: str, act: str, obj: str) -> str:
        words: Lexicon = lexicon(code)
        pair = next(p for h in HARMS for part in PARTS for p in pairs(h, part) if p.act == act and p.obj == obj)
        return words.phrase(pair)

    assert said("en", "hide_from_police", "bicycle") == "hide the bicycle from the police"
    assert said("de", "repair", "bicycle") == "das Fahrrad reparieren"
    assert said("ja", "repair", "bicycle") == "自転車を修理する"
    assert said("yo", "repair", "bicycle") == "tún kẹ̀kẹ́ náà ṣe"
