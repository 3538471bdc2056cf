"""Readers of run directories and configurations on thousands of broken files: our own error or a result, never a traceback.

Two kinds of input: arbitrary JSON and bytes from hypothesis, and sound files with a few bytes flipped, cut, repeated or
exchanged for hostile ones (10,000 mutants in all, seeded).
"""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from refusal_lens.cli.plain import plain
from refusal_lens.cli.rederive import rederive_rates
from refusal_lens.cli.runs import _rate_rows
from refusal_lens.config import parse_config, read_settings
from refusal_lens.core.redact import redact, redact_text
from refusal_lens.errors import UserError
from refusal_lens.rundir import RunDir, progress, read_plan, verify_chain, write_plan
from refusal_lens.rundir.lock import read_holder
from refusal_lens.rundir.published import published
from refusal_lens.rundir.records import DamagedRecordError, read_record
from refusal_lens.types import Task

MUTANTS = 1250
HOSTILE = [
    b"null",
    b"[]",
    b"{}",
    b'"',
    b"1e999",
    b"NaN",
    b"-1",
    b"../../x",
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"[" * 3000,
    b'"a":' * 9,
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FAST = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
TASK = Task("step", 1, "name", {"value": [1, "x", None], "deep": {"a": 0.5}})
NEXT = Task("rates", 1, "all", {}, ("step/name",))


def mutants(sound: bytes, count: int = MUTANTS) -> Iterator[bytes]:
    """Damaged versions of a sound file."""
    dice = random.Random(len(sound))
    for _ in range(count):
        content = bytearray(sound)
        for _ in range(dice.choice((1, 1, 1, 2, 5))):
            place = dice.randrange(len(content) + 1)
            how = dice.randrange(5)
            if how == 0 and content:
                content[min(place, len(content) - 1)] ^= 1 << dice.randrange(8)
            elif how == 1:
                del content[place:]
            elif how == 2:
                del content[place : place + dice.randrange(40)]
            elif how == 3:
                content[place:place] = dice.choice(HOSTILE)
            else:
                content[place:place] = content[: dice.randrange(60)]
        yield bytes(content)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = RunDir.create(tmp_path_factory.mktemp("fuzz") / "run", header={"config": {"data": {"prompt_sets": ["x"]}}})
    write_plan(run, [TASK, NEXT])
    cell = {
        "intervention": "baseline",
        "source": "",
        "language": "en",
        "prompts": "harmful",
        "prompt_set": "p",
        "k": 1,
        "n": 2,
    }
    row = {**cell, "unscored": 0, "rate": 0.5, "low": 0.1, "high": 0.9, "label": "refused"}
    for task, name in ((TASK, "verdicts"), (NEXT, "rates")):
        with run.writing(task) as folder:
            pq.write_table(pa.Table.from_pylist([row]), folder / f"{name}.parquet")
    run.publish(run.path("rates/all", "rates.parquet"))
    run.render({"report.html": b"<p>one page", "figures/a.svg": b"<svg/>"})
    return run


def survive(path: Path, contents: Iterator[bytes], read: Callable[[], object], allowed: type[Exception]) -> int:
    """Read every content; count how many were refused with our own error. Anything else propagates."""
    sound = path.read_bytes()
    refused = 0
    try:
        for content in contents:
            path.write_bytes(content)
            try:
                read()
            except allowed as error:
                refused += 1
                assert str(error)
    finally:
        path.write_bytes(sound)
    return refused


def test_records(run: RunDir) -> None:
    path = run.record_path("step/name")
    refused = survive(path, mutants(path.read_bytes()), lambda: read_record(path), DamagedRecordError)
    assert refused == MUTANTS or refused > 0.98 * MUTANTS  # a mutant may keep the JSON's meaning
    assert read_record(path).task_id == "step/name"


def test_headers(run: RunDir) -> None:
    path, history = run.root / "run.json", run.root / "history.jsonl"
    kept = history.read_bytes()
    assert (
        survive(path, mutants(path.read_bytes()), lambda: RunDir.open(run.root), UserError) == 0
    )  # the copy stands in
    history.unlink()
    assert survive(path, mutants(path.read_bytes()), lambda: RunDir.open(run.root), UserError) > 0.9 * MUTANTS
    history.write_bytes(kept)


def test_plans(run: RunDir) -> None:
    path = run.plan_path
    assert survive(path, mutants(path.read_bytes()), lambda: progress(run), UserError) > 0.9 * MUTANTS
    assert [task.task_id for task in read_plan(run)] == ["step/name", "rates/all"]


def test_lists_of_tables_and_locks(run: RunDir) -> None:
    path = run.root / "published.json"
    survive(path, mutants(path.read_bytes()), lambda: published(run.root), UserError)
    lock = run.root / "lock"
    lock.write_text('{"pid": 1, "host": "h", "since": "s"}')
    survive(lock, mutants(lock.read_bytes()), lambda: read_holder(lock), UserError)
    lock.write_text("")


@pytest.mark.parametrize(
    "place",
    [
        "tasks/step/name.json", "published.json", "plan.json", "data/step/name/verdicts.parquet", "tables/rates.parquet",
        "run.json", "history.jsonl", "rendered.json", "report.html", "figures/a.svg",
    ],
)  # fmt: skip
def test_verify_always_ends_and_notices(run: RunDir, place: str) -> None:
    path = run.root / place
    sound = path.read_bytes()
    changed = [content for content in mutants(sound, 80) if content != sound]
    unnoticed: list[bytes] = []

    def check() -> None:
        if not (verify_chain(run).problems or rederive_rates(run)):
            unnoticed.append(path.read_bytes())

    survive(path, iter(changed), check, UserError)
    same = [
        content for content in unnoticed if path.suffix.startswith(".json") and _meaning(content) == _meaning(sound)
    ]
    assert unnoticed == same
    assert verify_chain(run).problems == ()


def _meaning(content: bytes) -> list[object]:
    """What JSON lines or one JSON object say, whatever the white space."""
    text = content.decode()
    try:
        return [json.loads(text)]
    except ValueError:
        return [json.loads(line) for line in text.splitlines()]


def test_tables(run: RunDir) -> None:
    path = run.tables_dir / "rates.parquet"
    survive(path, mutants(path.read_bytes(), 2 * MUTANTS), lambda: _rate_rows(run, None), UserError)
    assert len(_rate_rows(run, None)) == 1


CONFIG = b"""
schema_version = 1
judge = "native"
seed = 3
[model]
spec = "testbed:universal"
dtype = "auto"
[data]
languages = ["en", "de"]
limit = 3
[directions]
sources = ["en"]
rule = "paper"
kl_threshold = 0.2
[transport]
batch_size = "auto"
workers = 2
"""


def test_configurations(tmp_path: Path) -> None:
    path = tmp_path / "audit.toml"
    path.write_bytes(CONFIG)
    refused = survive(
        path, mutants(CONFIG, 2 * MUTANTS), lambda: parse_config(read_settings(path), where=str(path)), UserError
    )
    assert MUTANTS < refused < 2 * MUTANTS
    assert parse_config(read_settings(path), where=str(path)).seed == 3


@FAST
@given(VALUES)
@example({"model": {"spec": "x"}, "data": {"languages": ["en"]}, "directions": {"sources": None}})
@example({"model": {"spec": "\ud800"}, "data": {"languages": ["en"]}, "seed": 10**400})
def test_any_json_as_configuration(value: object) -> None:
    try:
        parse_config(json.loads(json.dumps(value)), where="test")
    except UserError as error:
        assert "test" in str(error)


@FAST
@given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_anything_as_record_header_or_plan(run: RunDir, content: bytes) -> None:
    path = run.record_path("step/name")
    survive(path, iter([content]), lambda: read_record(path), DamagedRecordError)
    survive(run.plan_path, iter([content]), lambda: read_plan(run), UserError)
    survive(run.root / "run.json", iter([content]), lambda: RunDir.open(run.root), UserError)


@FAST
@given(VALUES)
def test_masking_keeps_the_shape_and_is_idempotent(value: object) -> None:
    plain_value = json.loads(json.dumps(value))
    once = redact(plain_value)
    assert type(once) is type(plain_value)
    assert json.dumps(redact(once)) == json.dumps(once)


@FAST
@given(st.text())
@example("\x1b]0;title\x07\x1b[31mred\x1b[0m")
@example("safe\u202etxt.exe\u2066\u200b\ufeff\x9b31m")
def test_shown_text_holds_nothing_active(text: str) -> None:
    shown = plain(text, one_line=True)
    assert not [character for character in shown if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    if shown == text:
        assert plain(shown) == text


SECRETS = [
    "hf_abcdefghijklmnopqrstuv", "sk-proj-abcdefghijklmnop1234", "ghp_abcdefghijklmnopqrstuvwx", "AKIAABCDEFGHIJKLMNOP",
    "xoxb-123456789-abcdefgh", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdef",
]  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
def test_known_tokens_are_masked_anywhere(secret: str) -> None:
    assert secret not in redact_text(f"failed with {secret} at once")
    assert secret not in json.dumps(redact({"a": [{"b": f"x={secret}"}]}))


@pytest.mark.parametrize(
    "words",
    [
        ["--api-key", "QQ"], ["--api-key=QQ"], ["--token", "QQ"], ["--hf-token=QQ"], ["--password", "QQ"], ["https://me:QQ@host/x"],
        ["https://host/x?token=QQ&y=1"], ["Authorization: Bearer QQQQQQQQQQQQ"], ["API_KEY=QQ"], ["x --token QQ --out y"],
    ],
)  # fmt: skip
def test_secret_options_are_masked(words: list[str]) -> None:
    assert "QQ" not in json.dumps(redact({"command": list(words)}))
    assert "QQ" not in redact_text(" ".join(words))


def test_what_only_looks_like_a_secret_stays() -> None:
    words = ["--max-new-tokens", "64", "--refusal-tokens", "1,2", "--out", "runs/token-test", "--seed", "0"]
    assert redact(list(words)) == words
    assert redact_text(" ".join(words)) == " ".join(words)
