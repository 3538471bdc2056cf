"""Readers of foreign prompt files: whatever the bytes, prompts that can be used or one `DataError`; nothing else.

The suite tries some hundred inputs per reader. `REFUSAL_LENS_FUZZ=3000` tries that many per reader (15,000 in all).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refusal_lens.errors import DataError
from refusal_lens.prompts import load_file, load_prompt_table, load_prompts, sample
from refusal_lens.prompts.building.corrections import read_corrections
from refusal_lens.prompts.building.translating import read_journal
from refusal_lens.prompts.checking.check import check
from refusal_lens.prompts.checking.quality_chart import read_compliance
from refusal_lens.prompts.loading.built import SPLIT_FILES, StandardRow, write_standard
from refusal_lens.types import Prompt

EXAMPLES = int(os.environ.get("REFUSAL_LENS_FUZZ", "150"))
fuzz = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)

KEYS = (
    "instruction",
    "instruction_translated",
    "text",
    "prompt",
    "id",
    "prompt_id",
    "category",
    "english",
    "topic",
    "language",
    "reviewer",
    "date",
    "lang",
    "harm",
    "split",
    "prompt_set",
)
texts = st.text(st.characters(codec=None), max_size=30) | st.sampled_from(
    ["", " ", "\u200b", "\ud800", "x\udfff", "\x00", "\u202e", "ok", "a" * 300, "~2", "\ufeff", "2026-11-23", "de"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
records = st.dictionaries(st.sampled_from(KEYS) | texts, scalars | values, max_size=5)
rows = st.lists(records | values, max_size=6)


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Bytes of a file: JSON, JSON Lines, plain text, broken JSON, or noise."""
    kind = draw(st.sampled_from(["json", "ascii", "lines", "text", "noise"]))
    if kind == "noise":
        return draw(st.binary(max_size=80))
    if kind == "text":
        return draw(st.text(max_size=80)).encode("utf-8", "surrogatepass")
    found = draw(rows | values)
    if kind == "lines":
        written = "\n".join(json.dumps(item) for item in (found if isinstance(found, list) else [found]))
    else:
        written = json.dumps(found, ensure_ascii=kind == "ascii")
    raw = written.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 3)) == 0 and raw:
        cut = draw(st.integers(0, len(raw) - 1))
        raw = raw[:cut] + draw(st.binary(max_size=3)) + raw[cut + draw(st.integers(0, 3)) :]
    return raw


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Bytes of a delimited file, seldom a right one."""
    delimiter = draw(st.sampled_from(",;\t|"))
    cells = st.lists(
        st.sampled_from(KEYS) | st.text(max_size=8) | st.sampled_from(['"', '"a\nb"', '"a""b"']), max_size=4
    )
    lines = [delimiter.join(line) for line in draw(st.lists(cells, max_size=5))]
    return draw(st.sampled_from(["\n", "\r\n", "\r"])).join(lines).encode("utf-8", "surrogatepass")


def assert_usable(prompts: list[Prompt]) -> None:
    assert prompts
    assert len({prompt.prompt_id for prompt in prompts}) == len(prompts)
    for prompt in prompts:
        for text in (prompt.text, prompt.prompt_id, prompt.english, prompt.category, prompt.topic):
            assert text is None or text.encode("utf-8") is not None
        assert prompt.text.strip("\u200b \t\r\n")
    assert {prompt.prompt_id for prompt in sample(prompts, n=len(prompts), seed=0)} == {
        prompt.prompt_id for prompt in prompts
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def message_is_clear(error: DataError, name: str) -> bool:
    return name in str(error) and len(str(error)) < 2000 and "\n" not in str(error)


@fuzz
@given(
    content=contents() | tables(),
    suffix=st.sampled_from([".json", ".jsonl", ".txt", "", ".csv", ".tsv", ".parquet"]),
    language=st.sampled_from(["en", "de"]),
)
def test_own_files(folder: Path, content: bytes, suffix: str, language: str) -> None:
    path = folder / f"mine{suffix}"
    path.write_bytes(content)
    try:
        prompts = load_file(path, language=language, harm="harmless")
    except DataError as error:
        assert message_is_clear(error, "mine")
    else:
        assert_usable(prompts)


@fuzz
@given(
    content=contents() | tables(),
    suffix=st.sampled_from([".json", ".csv", ".tsv"]),
    languages=st.sampled_from([(), ("de",)]),
)
def test_own_tables(folder: Path, content: bytes, suffix: str, languages: tuple[str, ...]) -> None:
    path = folder / f"own{suffix}"
    path.write_bytes(content)
    try:
        table = load_prompt_table(path, languages=languages, harm="harmful")
    except DataError as error:
        assert message_is_clear(error, "own") or "language code" in str(error)
        return
    cells = {(p.language, p.split, p.harm, p.prompt_set) for p in table.prompts}
    assert sum(len(table.cell(*cell)) for cell in cells) == len(table.prompts)
    for cell in cells:
        assert_usable(table.cell(*cell))


@fuzz
@given(
    content=contents(),
    english=contents(),
    cell=st.sampled_from([("de", "train"), ("de", "test"), ("en", "test"), ("en", "train")]),
)
def test_published_layout(folder: Path, content: bytes, english: bytes, cell: tuple[str, str]) -> None:
    language, split = cell
    root = folder / "repo"
    for path, raw in [
        (root / "PolyRefuse" / f"harmful_{split}_translated_de.json", content),
        (root / "dataset" / "splits" / f"harmful_{split}.json", english),
    ]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    try:
        prompts = load_prompts(root, language=language, split=split, harm="harmful")
    except DataError as error:
        assert message_is_clear(error, "harmful")
    else:
        assert_usable(prompts)
    try:
        report = check(root, languages=["de", "en"], identify=False)
    except DataError:
        return
    json.dumps([problem.detail for problem in report.problems])


@fuzz
@given(content=contents(), suffix=st.sampled_from([".csv", ".jsonl", ".json"]))
def test_corrections_and_compliance(folder: Path, content: bytes, suffix: str) -> None:
    path = folder / f"edits{suffix}"
    path.write_bytes(content)
    for reader in (read_corrections, read_compliance):
        try:
            assert reader(path)
        except DataError as error:
            assert message_is_clear(error, "edits") or "language code" in str(error)


@fuzz
@given(content=contents(), header=st.booleans())
def test_journals(folder: Path, content: bytes, header: bool) -> None:
    path = folder / "journal.jsonl"
    begin = json.dumps({"schema_version": 1, "translator": "t", "language": "sw"}).encode() + b"\n" if header else b""
    path.write_bytes(begin + content)
    try:
        done = read_journal(path, name="t", language="sw")
    except DataError as error:
        assert message_is_clear(error, "journal")
    else:
        assert all(isinstance(text, str) for text in done)


@fuzz
@given(position=st.integers(0, 4000), noise=st.binary(max_size=8), cut=st.booleans())
def test_parquet(folder: Path, position: int, noise: bytes, cut: bool) -> None:
    root = folder / "built"
    row = StandardRow("id", "sw", "harmful", "test", "text", "english", None, None, "polyrefuse", "ok", None)
    write_standard(root / "data", [row])
    path = root / "data" / "sw" / SPLIT_FILES["test"]
    raw = path.read_bytes()
    position %= len(raw)
    path.write_bytes(raw[:position] if cut else raw[:position] + noise + raw[position + len(noise) :])
    try:
        prompts = load_prompts(root, language="sw", split="test", harm="harmful")
    except DataError as error:
        assert message_is_clear(error, "sw")
    else:
        assert_usable(prompts)
