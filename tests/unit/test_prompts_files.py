"""A user's own prompt files, and drawing from them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refusal_lens.errors import DataError
from refusal_lens.prompts import load_file, sample


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '["one", "two"]'),
        ("a.json", '\ufeff["one", "two"]'),
        ("a.json", '[{"text": "one"}, {"prompt": "two"}]'),
        ("a.json", '[{"instruction": "one", "instruction_translated": "eins"}, {"instruction": "two"}]'),
        ("a.jsonl", '"one"\n\n{"text": "two"}\n'),
        ("a.txt", "one\r\n  \r\ntwo"),
        ("a.txt", '["one", "two"]'),
        ("a", '{"text": "one"}\n{"text": "two"}\n'),
    ],
)
def test_formats(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    prompts = load_file(path, language="en", harm="harmless")
    assert [prompt.text for prompt in prompts] == ["one", "two"]
    assert {(prompt.split, prompt.prompt_set, prompt.harm) for prompt in prompts} == {("test", "file", "harmless")}


def test_translation_column_and_english_id(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"instruction": "one", "instruction_translated": "eins", "category": "c", "topic": "zahl"}]')
    (german,) = load_file(path, language="de", harm="harmful", split="train")
    (english,) = load_file(path, language="en", harm="harmful", split="train")
    assert (german.text, german.english, german.category, german.topic) == ("eins", "one", "c", "zahl")
    assert german.prompt_id == english.prompt_id


def test_a_line_that_looks_like_json_is_a_prompt(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("[1] say hello\n{not json\nline\u2028separator")
    assert [prompt.text for prompt in load_file(path, language="en", harm="harmless")] == [
        "[1] say hello",
        "{not json",
        "line\u2028separator",
    ]


def test_own_ids(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"id": 7, "text": "x"}, {"prompt_id": "b", "text": "x"}, {"text": "x"}, {"text": "x"}]')
    ids = [prompt.prompt_id for prompt in load_file(path, language="en", harm="harmless")]
    assert ids[:2] == ["7", "b"]
    assert ids[3] == ids[2] + "~2"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"", "broken JSON"),
        ("a.json", b"[]", "no prompts"),
        ("a.txt", b" \n\n", "no prompts"),
        ("a.json", b'{"a": 1}', "expected a JSON list"),
        ("a.json", b"[1]", "row 1: expected a text or an object"),
        ("a.json", b'[{"words": "x"}]', "row 1: no prompt in this object"),
        ("a.json", b'["ok", "  "]', "row 2: the prompt has no visible character"),
        ("a.json", b'["\\udc00"]', "lone surrogate"),
        ("a.json", b'[{"text": "x", "id": "a"}, {"text": "y", "id": "a"}]', "id 'a' occurs 2 times"),
        ("a.json", b'[{"text": "x", "id": true}]', "the id is true/false"),
        ("a.json", b'[{"text": "x", "id": "a\\u001bb"}]', "the id is empty, longer"),
        ("a.json", b'[{"text": "x", "english": 5}]', "the english is a number"),
        ("a.jsonl", b'{"text": "x"}\n{"text": ', "line 2: broken JSON"),
        ("a.txt", b"fine\nna\xefve", "line 2 is not UTF-8"),
        ("a.json", b"[" + b"9" * 5000 + b"]", "broken JSON"),
    ],
)
def test_faults_name_file_and_row(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_file(path, language="en", harm="harmless")
    assert name in str(caught.value)


def test_places_that_are_no_files(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, message in [
        (tmp_path, "folder|regular"),
        (tmp_path / "absent", "no such file"),
        (pipe, "not a regular file"),
        (Path("a\0b"), "cannot be read"),
    ]:
        with pytest.raises(DataError, match=message):
            load_file(path, language="en", harm="harmless")


def test_sample_draws_the_same_ids_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n".join(f"prompt {n}" for n in range(50)))
    prompts = load_file(path, language="en", harm="harmless")
    drawn = [prompt.prompt_id for prompt in sample(prompts, n=10, seed=1)]
    assert drawn == [prompt.prompt_id for prompt in sample(prompts[::-1], n=10, seed=1)]
    assert drawn[:5] == [prompt.prompt_id for prompt in sample(prompts, n=5, seed=1)]
    assert drawn != [prompt.prompt_id for prompt in sample(prompts, n=10, seed=2)]
    without_one = [prompt for prompt in prompts if prompt.prompt_id != drawn[3]]
    assert set(drawn) - {drawn[3]} < {prompt.prompt_id for prompt in sample(without_one, n=10, seed=1)}
    for n, given in [(51, prompts), (-1, prompts), (1, [prompts[0], prompts[0]])]:
        with pytest.raises(DataError):
            sample(given, n=n, seed=0)
