"""The published files: counts, shared ids, the missing cell, copies and the one leak, as PAPER.md section 3 has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusal_lens.prompts import AbsentCell, base_id, load_prompts, prompt_sets, without_overlap

LANGUAGES = ("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo", "zh")
COUNTS = {
    ("harmful", "train"): 260,
    ("harmful", "val"): 39,
    ("harmful", "test"): 572,
    ("harmless", "train"): 200,
    ("harmless", "val"): 200,
    ("harmless", "test"): 500,
}


@pytest.fixture(scope="module")
def published(shared: Path) -> Path:
    return shared / "data" / "Multilingual-Refusal"


@pytest.mark.slow
def test_all_cells(published: Path) -> None:
    absent = []
    for (harm, split), count in COUNTS.items():
        english = load_prompts(published, language="en", split=split, harm=harm)
        assert len(english) == count
        for language in LANGUAGES:
            try:
                prompts = load_prompts(published, language=language, split=split, harm=harm)
            except AbsentCell as missing:
                absent.append((missing.cell.language, missing.cell.split, missing.cell.harm))
                continue
            assert [prompt.prompt_id for prompt in prompts] == [prompt.prompt_id for prompt in english]
            other_prompts = (language, harm) == (
                "zh",
                "harmless",
            )  # translations of other prompts: ids of their places only
            originals = [None if other_prompts else prompt.text for prompt in english]
            assert [prompt.english for prompt in prompts] == originals
            assert language == "en" or sum(prompt.text == prompt.english for prompt in prompts) == 0
    assert absent == [("zh", "test", "harmless")]


def test_copies_and_leak(published: Path) -> None:
    test = load_prompts(published, language="th", split="test", harm="harmful")
    assert len({prompt.prompt_id for prompt in test}) == 572
    assert len({base_id(prompt.prompt_id) for prompt in test}) == 562
    selection = [
        prompt
        for harm, split in COUNTS
        if split != "test"
        for prompt in load_prompts(published, language="th", split=split, harm=harm)
    ]
    for language in ("en", "th"):
        cell = load_prompts(published, language=language, split="test", harm="harmful")
        kept, overlapping = without_overlap(cell, selection)
        assert len(kept) == 571
        assert [cell.index(prompt) for prompt in overlapping] == [8]


def test_further_sets(published: Path) -> None:
    sets = {found.name: found for found in prompt_sets(published)}
    assert sets["jailbreakbench"].languages == LANGUAGES
    sizes = {
        (name, harm): len(load_prompts(published, language="en", split="test", harm=harm, prompt_set=name))
        for name, found in sets.items()
        for harm in found.harms
        if name != "polyrefuse"
    }
    assert sizes == {
        ("xstest", "harmless"): 250,
        ("xstest", "harmful"): 200,
        ("oktest", "harmless"): 100,
        ("jailbreakbench", "harmful"): 100,
    }
    dutch = load_prompts(published, language="nl", split="test", harm="harmful", prompt_set="jailbreakbench")
    harmful = {p.prompt_id for p in load_prompts(published, language="nl", split="test", harm="harmful")}
    assert len(dutch) == 98
    assert {prompt.prompt_id for prompt in dutch} < harmful
