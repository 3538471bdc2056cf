"""`audit --prompts FILE`: one's own prompts, checked and said before anything is computed (`--dry-run`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from refusal_lens.cli.app import app
from refusal_lens.errors import LensError

ROWS = [
    f"[{lang}] {harm} {n},{lang},{harm},{harm}{n}"
    for lang in ("en", "de")
    for harm in ("harmful", "harmless")
    for n in range(10)
]


def dry_run(path: Path, *options: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(
        app,
        ["audit", "testbed:aligned", "--prompts", str(path), *options, "--dry-run", "--out", str(path.parent / "run")],
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, LensError), result.exception
        return result.exception.exit_code, result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


def write(folder: Path, rows: list[str], header: str = "text,lang,harm,id") -> Path:
    path = folder / "own.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_own_prompts_are_read_split_and_said(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS)
    code, _, err = dry_run(path, "--languages", "en,de")
    assert code == 0
    assert "40 prompts read, the first: '[en] harmful 0' (en 20, de 20)" in err
    assert "no column split: drawn by id with seed 0: 10 harmful = 4 train + 1 val + 5 test" in err
    assert dry_run(path)[0] == 0
    code, _, err = dry_run(path, "--languages", "en")
    assert (code, "not asked for and not used: de" in err) == (0, True)


def test_what_a_small_file_cannot_give_is_said_before_anything_runs(tmp_path: Path) -> None:
    """Found as a new user: three train prompts can never show the four refusals that a direction needs."""
    few = [row for row in ROWS if not row.endswith(("7", "8", "9"))]
    code, out, err = dry_run(write(tmp_path, few), "--languages", "en,de")
    assert code == 0 and "a direction needs at least 4 that the model refuses" in out
    assert "testbed:aligned knows prompts of its own kind alone" in err
    code, _, err = dry_run(write(tmp_path, few), "--languages", "en,de", "--baseline-only")
    assert code == 0 and "train and val prompts are left to a whole audit; `test` in a column split asks all" in err


def test_one_language_needs_no_column_and_is_its_own_source(tmp_path: Path) -> None:
    rows = [row.replace(",de,", ",") for row in ROWS if ",de," in row]
    path = write(tmp_path, rows, "goal,type,id")
    assert dry_run(path, "--column", "harm=type", "--languages", "de")[0] == 0
    assert dry_run(path, "--column", "text=goal,harm=type", "--column", "id=id", "--languages", "en")[0] == 0
    code, _, err = dry_run(path, "--column", "harm=type")
    assert (code, "no column `lang`" in err) == (2, True)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            [row for row in ROWS if "harmless" not in row],
            (),
            "no harmless train or val prompts: a direction is the difference",
        ),
        (ROWS, ("--languages", "en,fr"), "no prompt of any kind for fr"),
        (ROWS, ("--column", "text=goal"), "no column 'goal'"),
        (ROWS, ("--data", "."), "give one of them"),
    ],
)
def test_what_is_lacking_is_said_and_exits_2(
    rows: list[str], options: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    code, _, err = dry_run(write(tmp_path, rows), *options)
    assert (code, message in err) == (2, True), err
    assert not (tmp_path / "run").exists()


def test_a_file_of_one_class_is_enough_for_a_baseline(tmp_path: Path) -> None:
    path = write(tmp_path, [row for row in ROWS if "harmless" not in row])
    code, _, err = dry_run(path, "--baseline-only")
    assert (code, "all prompts are for the test" in err) == (0, True), err
