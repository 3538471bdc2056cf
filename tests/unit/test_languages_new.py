"""A language without a file: what is said about it, and the file that `language new` writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from refusal_lens.cli.app import app
from refusal_lens.errors import UserError
from refusal_lens.languages import get_language, parse_language, resolve_languages


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("hi", "no file for Hindi yet: `refusal-lens language new hi`"),
        ("tr", "no file for Turkish yet: `refusal-lens language new tr`"),
        ("sw", "no file for Swahili yet: `refusal-lens language new sw`"),
        ("pt-BR", "no file for Brazilian Portuguese yet: `refusal-lens language new pt-BR`"),
        ("germn", "did you mean 'de'?"),
        ("zh-CN", "did you mean 'zh'?"),
        ("xx", "unknown language 'xx'; known codes"),
    ],
)
def test_a_language_without_a_file_is_named_and_not_taken_for_another(code: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve_languages(f"en,{code}")
    assert said in str(caught.value)
    assert ("did you mean" in str(caught.value)) == ("did you mean" in said)


@pytest.mark.parametrize(
    ("code", "script", "direction", "spaced", "name"),
    [
        ("hi", "Deva", "ltr", True, "Hindi"),
        ("ur", "Arab", "rtl", True, "Urdu"),
        ("my", "Mymr", "ltr", False, "Burmese"),
        ("pt-BR", "Latn", "ltr", True, "Brazilian Portuguese"),
    ],
)
def test_a_new_language_file_is_accepted_and_found(
    code: str, script: str, direction: str, spaced: bool, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = CliRunner().invoke(app, ["language", "new", code, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert f"export REFUSAL_LENS_LANGUAGES={tmp_path}" in result.stdout
    file = tmp_path / f"{code}.toml"
    made = parse_language(file.read_bytes(), origin=str(file))
    assert (made.code, made.script, made.direction, made.spaced, made.english_name) == (
        code, script, direction, spaced, name,
    )  # fmt: skip
    monkeypatch.setenv("REFUSAL_LENS_LANGUAGES", str(tmp_path))
    assert get_language(code.lower()).english_name == name
    for wrong in (code, "de", "../x"):
        again = CliRunner().invoke(app, ["language", "new", wrong, "--out", str(tmp_path)])
        assert isinstance(again.exception, UserError)
