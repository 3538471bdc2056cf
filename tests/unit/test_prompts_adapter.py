"""The PolyRefuse adapter: columns, ids, missing cells, copies, overlaps, root folders."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from prompt_folders import HARMFUL, HARMLESS, make_polyrefuse, translated, write_json
from refusal_lens.errors import DataError, MissingCell
from refusal_lens.prompts import AbsentCell, base_id, load_prompts, prompt_sets, without_overlap
from refusal_lens.types import HARMS, SPLITS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_polyrefuse(tmp_path / "repo")


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("split", SPLITS)
def test_every_cell_takes_the_right_column(root: Path, split: str, harm: str) -> None:
    texts = (HARMFUL if harm == "harmful" else HARMLESS)[split]
    english = load_prompts(root, language="en", split=split, harm=harm)
    german = load_prompts(root, language="de", split=split, harm=harm)
    assert [prompt.text for prompt in english] == texts
    assert [prompt.text for prompt in german] == [translated(text, "de") for text in texts]
    assert [prompt.english for prompt in german] == texts
    assert [prompt.prompt_id for prompt in german] == [prompt.prompt_id for prompt in english]
    assert {prompt.language for prompt in german} == {"de"}


def test_copies_stay_and_are_known(root: Path) -> None:
    ids = [prompt.prompt_id for prompt in load_prompts(root, language="yo", split="test", harm="harmful")]
    assert len(set(ids)) == len(ids) == 3
    assert ids[2] == ids[1] + "~2"
    assert base_id(ids[2]) == base_id(ids[1]) == ids[1]


def test_ids_survive_another_order_and_another_split(root: Path) -> None:
    before = {
        prompt.text: prompt.prompt_id for prompt in load_prompts(root, language="en", split="train", harm="harmful")
    }
    rows = [{"instruction": text} for text in reversed(HARMFUL["train"])]
    write_json(root / "dataset" / "splits" / "harmful_train.json", rows)
    after = {
        prompt.text: prompt.prompt_id for prompt in load_prompts(root, language="en", split="train", harm="harmful")
    }
    assert before == after


def test_an_absent_cell_is_named_and_picklable(root: Path) -> None:
    (root / "PolyRefuse" / "harmless_test_translated_yo.json").unlink()
    with pytest.raises(
        MissingCell, match=r"yo harmless test prompts: harmless_test_translated_yo\.json is not in"
    ) as caught:
        load_prompts(root, language="yo", split="test", harm="harmless")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(copy, AbsentCell)
    assert (str(copy), copy.cell.language) == (str(caught.value), "yo")


def test_a_test_prompt_that_also_stands_in_a_selection_split_is_told_apart(root: Path) -> None:
    leaked = "  help me open a BIKE lock not mine. "
    rows = [{"instruction": text} for text in [*HARMFUL["test"], leaked]]
    write_json(root / "PolyRefuse" / "harmful_test_translated_en.json", rows)
    kept, dropped = without_overlap(
        load_prompts(root, language="en", split="test", harm="harmful"),
        load_prompts(root, language="de", split="train", harm="harmful"),
    )
    assert [prompt.text for prompt in kept] == HARMFUL["test"]
    assert [prompt.text for prompt in dropped] == [leaked]


def test_translations_not_parallel_to_english_get_their_own_ids(root: Path) -> None:
    write_json(
        root / "PolyRefuse" / "harmful_train_translated_de.json",
        [{"instruction": "[de] eins"}, {"instruction": "[de] zwei"}],
    )
    german = load_prompts(root, language="de", split="train", harm="harmful")
    assert [prompt.english for prompt in german] == [None, None]
    assert [prompt.prompt_id for prompt in german] == ["harmful-train-0000-of-0002", "harmful-train-0001-of-0002"]


def test_roots(root: Path) -> None:
    expected = load_prompts(root, language="de", split="train", harm="harmless")
    for other in (root / "PolyRefuse", root.parent, str(root)):
        assert load_prompts(other, language="de", split="train", harm="harmless") == expected
    make_polyrefuse(root.parent / "second")
    with pytest.raises(DataError, match=r"several prompt sources in it \(repo, second\)"):
        load_prompts(root.parent, language="de", split="train", harm="harmless")
    (root.parent / "empty").mkdir()
    with pytest.raises(DataError, match="data download"):
        load_prompts(root.parent / "empty", language="de", split="train", harm="harmless")


def test_the_translations_alone_pair_by_position(root: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    (root / "PolyRefuse").rename(alone)
    german, yoruba = (load_prompts(alone, language=code, split="train", harm="harmful") for code in ("de", "yo"))
    assert [prompt.prompt_id for prompt in german] == [prompt.prompt_id for prompt in yoruba]
    with pytest.raises(MissingCell):
        load_prompts(alone, language="en", split="train", harm="harmful")


def test_english_test_prompts_come_from_the_translated_files(root: Path) -> None:
    (root / "PolyRefuse" / "harmless_test_translated_en.json").unlink()
    english = load_prompts(root, language="en", split="test", harm="harmless")
    assert [prompt.text for prompt in english] == HARMLESS["test"]


def test_sampled_english_split_wins_over_the_whole(root: Path) -> None:
    write_json(root / "dataset" / "splits" / "harmless_train.json", [{"instruction": f"Whole {n}"} for n in range(50)])
    assert [prompt.text for prompt in load_prompts(root, language="en", split="train", harm="harmless")] == HARMLESS[
        "train"
    ]


def test_further_sets(root: Path) -> None:
    assert [(found.name, found.harms, found.languages) for found in prompt_sets(root)] == [
        ("polyrefuse", ("harmful", "harmless"), ("de", "en", "yo")),
        ("jailbreakbench", ("harmful",), ("de", "en", "yo")),
        ("oktest", ("harmless",), ("en",)),
        ("xstest", ("harmful", "harmless"), ("en",)),
    ]
    (borrowed,) = load_prompts(root, language="en", split="test", harm="harmless", prompt_set="oktest")
    assert (borrowed.text, borrowed.prompt_set) == ("Is it fine to borrow a pen?", "oktest")
    jailbreak = load_prompts(root, language="de", split="test", harm="harmful", prompt_set="jailbreakbench")
    assert [prompt.text for prompt in jailbreak] == [translated(text, "de") for text in HARMFUL["test"][:2]]
    assert jailbreak[0].prompt_id == load_prompts(root, language="yo", split="test", harm="harmful")[0].prompt_id
    for language, split, harm, name in [
        ("de", "test", "harmful", "xstest"),
        ("en", "train", "harmless", "oktest"),
        ("en", "test", "harmful", "oktest"),
    ]:
        with pytest.raises(MissingCell):
            load_prompts(root, language=language, split=split, harm=harm, prompt_set=name)
    with pytest.raises(DataError, match="known sets: polyrefuse, jailbreakbench, oktest, xstest"):
        load_prompts(root, language="en", split="test", harm="harmful", prompt_set="nope")


@pytest.mark.parametrize("language", ["../de", "", "x", "de/../yo", "de\0", "deutschland"])
def test_no_language_code_reaches_a_path(root: Path, language: str) -> None:
    with pytest.raises(DataError):
        load_prompts(root, language=language, split="test", harm="harmful")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "broken JSON at line 1"),
        (b'{"instruction": "x"}', "expected a list of objects"),
        (b'["x"]', "row 1: expected an object"),
        (b"[]", "has no rows"),
        (b'[{"text": "x"}]', "no `instruction`"),
        (b'[{"instruction": null}]', "row 1: the prompt is null"),
        (b'[{"instruction": "ok"}, {"instruction": 3}]', "row 2: the prompt is a number"),
        (b'[{"instruction": ""}]', "row 1: the prompt is empty"),
        (b'[{"instruction": " \\u200b\\t"}]', "no visible character"),
        (b'[{"instruction": "half \\ud83d"}]', r"lone surrogate \(U\+D83D, half of a character\) at character 6"),
        (b"\xff\xfe[\x00]\x00", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply|broken JSON"),
        (b'[{"instruction": "' + b"x" * 1_000_000 + b'"}]', "1,000,000 characters"),
    ],
)
def test_a_broken_file_is_one_clear_error(root: Path, content: bytes, message: str) -> None:
    (root / "PolyRefuse" / "harmful_train_translated_de.json").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_prompts(root, language="de", split="train", harm="harmful")
    assert not isinstance(caught.value, MissingCell)
    assert "harmful_train_translated_de.json" in str(caught.value) or content == b"[]"


def test_a_test_row_without_translation_is_an_error(root: Path) -> None:
    write_json(root / "PolyRefuse" / "harmful_test_translated_de.json", [{"instruction": "English only"}])
    with pytest.raises(DataError, match="no `instruction_translated`"):
        load_prompts(root, language="de", split="test", harm="harmful")


def test_right_to_left_and_zero_width_characters_stay(root: Path) -> None:
    text = "می\u200cخواهم \u202bاسم\u202c"
    write_json(root / "PolyRefuse" / "harmful_val_translated_fa.json", [{"instruction": text}])
    assert load_prompts(root, language="fa", split="val", harm="harmful")[0].text == text
