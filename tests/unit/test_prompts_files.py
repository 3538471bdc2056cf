"""A user's own prompt files, and drawing from them."""

from __future__ import annotations

import os
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refusal_lens.errors import DataError
from refusal_lens.prompts import MissingColumnError, load_file, read_prompts, sample


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
        ("a.json", '[{"Goal": "one"}, {"BEHAVIOR": "two"}]'),
        ("a.csv", "goal,target\none,x\ntwo,y\n"),
        ("a.csv", "\ufeffid;Prompt\r\n1;one\r\n\r\n;\r\n2;two\r\n"),
        ("a.csv", "id\tinstruction\n1\tone\n2\ttwo"),
        ("A.TSV", 'Goal\tBehavior\tGoal, short\none\tlabel, long\t"a\tb"\ntwo\tlabel\t'),
        ("a.csv", "goal,target,target\none,x,y\ntwo,x,y\n"),
        ("a.csv", "goal\none\ntwo"),
    ],
)
def test_formats(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    prompts = load_file(path, language="en", harm="harmless")
    assert [prompt.text for prompt in prompts] == ["one", "two"]
    assert {(prompt.split, prompt.prompt_set, prompt.harm) for prompt in prompts} == {("test", "file", "harmless")}


@pytest.mark.parametrize(
    "text", ['a, "b"\n\nc;d', "line\u2028\u0085end\x0c", " spaces ", "'=1+1", "héllo\t世界", "\r\nx", "text"]
)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.parquet", "a.json", "a.jsonl"])
def test_a_text_comes_out_of_every_format_as_an_independent_writer_put_it_in(
    tmp_path: Path, name: str, text: str
) -> None:
    path = tmp_path / name
    frame = datasets.Dataset.from_dict({"id": [1, 2], "Goal": [text, "two"], "target": ["Sure, here", "x"]})
    pandas = frame.to_pandas()
    match path.suffix:
        case ".csv" | ".tsv":
            pandas.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
        case ".parquet":
            pandas.to_parquet(path)
        case _:
            pandas.to_json(path, orient="records", lines=path.suffix == ".jsonl")
    prompts = load_file(path, language="en", harm="harmful")
    assert [(prompt.prompt_id, prompt.text) for prompt in prompts] == [("1", text), ("2", "two")]
    named = load_file(path, language="en", harm="harmful", column="TARGET")
    assert [prompt.text for prompt in named] == ["Sure, here", "x"]


def test_an_echo_says_how_many_and_shows_the_first_without_what_a_terminal_obeys(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("goal,target\n\x1b[2Jone\u202e" + "x" * 100 + ",y\n", encoding="utf-8")
    said = read_prompts(path, language="en", harm="harmful").summary()
    assert said == f"{path}: 1 prompt read, the first: '\\x1b[2Jone\\u202e" + "x" * 52 + "'… (column 'goal')"


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
        ("a.csv", b"How do I open a lock?\nName a colour\n", "columns there: 'How do I open a lock\\?'; a CSV"),
        ("a.csv", b"How do I open a lock?\n", "no prompts in it under its header"),
        ("a.csv", b"behaviour,target\na,b\n", "columns there: 'behaviour', 'target'"),
        ("a.csv", b"", "no prompts"),
        ("a.csv", b"goal,target\nWrite a story, with details,Sure\n", "line 2: 3 cells under a header of 2"),
        ("a.csv", b"goal,target\nWrite a story\nwith details,Sure\n", "line 2: 1 cells under a header of 2"),
        ("a.csv", b'goal,target\n"no end,x\nb,c\n', "line 2: broken CSV"),
        ("a.csv", b'goal,target\n"a"b,c\n', "line 2: broken CSV"),
        ("a.csv", b"goal,target\nx,y\n,Sure\n", "line 3: the prompt is empty"),
        ("a.csv", b"goal,goal\nx,y\n", "2 columns are called 'goal'"),
        ("a.csv", b"Goal,GOAL\nx,y\n", "2 columns are called 'goal'"),
        ("a.csv", b"Id,goal,ID\n1,x,y\n", "2 columns are called 'id'"),
        ("a.csv", b"goal\nna\xefve", "line 2 is not UTF-8"),
        ("a.csv", "goal\nx".encode("utf-16"), "line 1 is not UTF-8"),
        ("a.parquet", b"PAR1", "not a readable Parquet file"),
        ("a.txt", b"goal,target\nx,y\n", "first line is the header of a table"),
        ("a.txt", b"Prompt\nx\n", "first line is the header of a table"),
        ("a", b"one\ntwo\n", "no suffix"),
        ("a.csv.gz", b"", "cannot read .gz files; save it as one of .csv, "),
        ("a.xlsx", b"", "cannot read .xlsx files"),
        ("a.md", b"one", "cannot read .md files"),
    ],
)
def test_faults_name_file_and_row(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_file(path, language="en", harm="harmless")
    assert name in str(caught.value)


def test_a_named_column_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,answer\nx,y\n")
    with pytest.raises(MissingColumnError, match="no column 'question'; columns there: 'text', 'answer'"):
        load_file(path, language="en", harm="harmless", column="question")
    lines = tmp_path / "a.txt"
    lines.write_text("x\n")
    with pytest.raises(MissingColumnError, match="no column 'text'; columns there: none"):
        load_file(lines, language="en", harm="harmless", column="text")


def test_columns_of_other_types_are_no_prompts(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for values, kind in (([1.5], "a number"), ([b"x"], "bytes"), ([None], "null"), ([["x"]], "a list")):
        pq.write_table(pa.table({"text": values}), path)
        with pytest.raises(DataError, match=f"row 1: the prompt is {kind}, not a text"):
            load_file(path, language="en", harm="harmless")


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
