"""The ground floor: atomic writing, digests, hiding secrets, reading JSON; and that no room keeps a copy of its own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import refusal_lens
from refusal_lens.core import files
from refusal_lens.core.digests import canonical_json, digest_file, digest_files, digest_json
from refusal_lens.core.files import PRIVATE_FILE, PUBLIC_FILE, StorageError, is_temporary, storing, write_atomic
from refusal_lens.core.json_files import parse_json, read_object
from refusal_lens.core.redact import redact_text, shown_url
from refusal_lens.errors import DataError, ModelError, UserError

SOURCE = Path(refusal_lens.__file__).parent
ONLY_COPY = {
    r"os\.fsync\(": {"core/files.py", "prompts/building/translating.py"},  # a journal that grows line by line
    r"mkstemp|NamedTemporaryFile": set(),
    r"token_hex\(\d\)}\.tmp": {"core/files.py"},
    r"file_digest\(stream": {"core/digests.py"},
    r"netloc\.rpartition|username=None": {"core/redact.py"},
}


@pytest.mark.parametrize("pattern", ONLY_COPY)
def test_no_room_keeps_a_copy_of_the_ground_floor(pattern: str) -> None:
    found = {
        str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if re.search(pattern, path.read_text("utf-8"))
    }
    assert found == ONLY_COPY[pattern]


@pytest.mark.parametrize("mode", [PRIVATE_FILE, PUBLIC_FILE])
def test_a_write_replaces_everything_and_leaves_nothing_else(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "new" / "a.json"
    for content in (b"first", b"second\r\n\x00"):
        write_atomic(path, content, mode=mode)
        assert path.read_bytes() == content
        assert stat.S_IMODE(path.stat().st_mode) == mode
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("moment", ["open", "fsync", "replace"])
def test_a_write_that_is_stopped_leaves_the_old_file(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write_atomic(path, b"old")

    def dying(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path if moment == "replace" else files.os, moment, dying)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_leaves_is_known_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", lambda *_: os.kill)
    monkeypatch.setattr(files, "sync_folder", lambda _: None)
    write_atomic(tmp_path / "rates.json", b"{}")  # the rename never happens
    assert [is_temporary(path.name) for path in tmp_path.iterdir()] == [True]
    assert not is_temporary("rates.json") and not is_temporary(".rates.json.tmp")


@pytest.mark.parametrize("place", ["file/below", "folder", "x" * 300])
def test_a_place_that_cannot_be_written_is_named_in_one_message(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot be written") as told:
        write_atomic(tmp_path / place, b"x")
    assert place.partition("/")[0] in str(told.value) and "\n" not in str(told.value)


def test_a_full_disk_says_make_room() -> None:
    with pytest.raises(StorageError, match=r"/dev/full: .*full.*make room"), storing(Path("/dev/full")):
        Path("/dev/full").write_bytes(b"x")


def test_digests_are_sha256_of_the_stated_bytes(tmp_path: Path) -> None:
    for name, content in (("b", b"2"), ("a", b"1")):
        (tmp_path / name).write_bytes(content)
    one, two = (hashlib.sha256(content).hexdigest() for content in (b"1", b"2"))
    assert digest_file(tmp_path / "a") == one
    expected = hashlib.sha256(f"b\0{two}\na\0{one}\n".encode()).hexdigest()
    assert digest_files(tmp_path, [tmp_path / "b", tmp_path / "a"]) == expected
    assert canonical_json({"b": (1, None), "a": "é"}) == b'{"a":"\\u00e9","b":[1,null]}'
    assert digest_json({}) == hashlib.sha256(b"{}").hexdigest()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:hunter2@host:8000/v1?token=hunter2#hunter2", "https://host:8000/v1"),
        ("http://hunter2@host", "http://host"),
        ("http://me:hunter@2@host/x", "http://host/x"),
        ("http://[::1]:80/v1", "http://[::1]:80/v1"),
        ("http://me:hunter2@[::1/v1", None),
        ("http://me:hunter2@host:port/v1", "http://host:port/v1"),
    ],
)
def test_a_shown_address_holds_no_secret(url: str, shown: str | None) -> None:
    assert shown is None or shown_url(url) == shown
    assert "hunter" not in shown_url(url)


def test_a_shown_address_is_not_masked_further() -> None:
    shown = shown_url("https://me:hunter2@host:8000/v1?token=hunter2")
    assert redact_text(shown) == shown


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": }', "line 1, column 7"),
        (b"\xff{}", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "broken JSON"),
        (b"[1]", "not a JSON object but a list"),
        (b"null", "not a JSON object but null"),
        (b"true", "not a JSON object but true or false"),
    ],
)
def test_broken_json_is_the_callers_error_with_file_and_advice(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=re.escape(said)) as told:
        read_object(path, error=ModelError, advice="download it again")
    assert str(told.value).startswith(f"{path}: ") and str(told.value).endswith("; download it again")


@pytest.mark.parametrize("name", ["gone", "folder", "x" * 300, "nul\x00l"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read_object(tmp_path / name)


@given(st.text() | st.binary())
def test_any_text_is_parsed_or_refused_in_our_words(content: str | bytes) -> None:
    try:
        value = parse_json(content, "here")
    except UserError as error:
        assert str(error).startswith("here: ")
    else:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        assert json.dumps(value) == json.dumps(json.loads(text))
