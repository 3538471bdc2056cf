"""Tables for people and for programs: no number is cut, p-values keep their digits, the worst language comes first."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from refusal_lens import __version__
from refusal_lens.cli.app import GROUPS, app
from refusal_lens.cli.printing import (
    Format,
    print_compare_grid,
    print_rates_grid,
    print_rows,
    print_transfer_grid,
    readable,
)

Row = dict[str, str | int | float | bool | None]


def _rate(language: str, k: int, **changes: str | int | float) -> Row:
    row: Row = {"intervention": "baseline", "source": "", "language": language, "prompts": "harmful", "k": k, "n": 10}
    row |= {"unscored": 0, "rate": k / 10, "low": 0.0, "high": 1.0, "prompt_set": "own", **changes}
    return row


def _lines(printed: str) -> list[list[str]]:
    return [line.split() for line in printed.splitlines() if line.split()]


def test_the_worst_language_comes_first_and_random_directions_are_one_mean(capsys: pytest.CaptureFixture[str]):
    rows = [_rate("en", 1), _rate("yo", 9)]
    rows += [_rate("en", 8, intervention="ablation", source=source) for source in ("en",)]
    rows += [_rate("en", k, intervention="ablation", source=f"random-{k}") for k in (1, 3)]
    rows += [_rate(code, 9, prompts="harmless") for code in ("en", "yo")]
    print_rates_grid(rows)
    lines = _lines(capsys.readouterr().out)
    assert lines[0] == ["harmful", "prompts", "ANSWERED,", "per", "cent"]
    assert lines[4:6] == [["yo", "90"], ["en", "10", "80", "20"]]  # 20 is the mean of 10 and 30
    assert ["yo", "10"] in lines[6:], "harmless prompts are shown by the share refused"


def test_what_could_not_be_judged_is_marked(capsys: pytest.CaptureFixture[str]):
    print_rates_grid([_rate("en", 1, unscored=5), _rate("de", 0, n=0, unscored=9) | {"rate": None}])
    lines = _lines(capsys.readouterr().out)
    assert ["en", "10*"] in lines
    assert ["de", "-*"] in lines


@pytest.mark.parametrize("many", [3, 14])
def test_a_grid_of_rates_fits_80_columns(capsys: pytest.CaptureFixture[str], many: int):
    codes = ["en", "de", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo", "zh", "ar", "es"][:many]
    rows = [_rate(code, 1, prompts=harm) for code in codes for harm in ("harmful", "harmless")]
    for source in [*codes, "pooled", "random-0", "shuffled"]:
        rows += [_rate(code, 10, intervention="ablation", source=source) for code in codes]
    print_rates_grid(rows)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    assert "…" not in printed


def _change(source: str, target: str, difference: float | None, p_holm: float | None) -> Row:
    return {
        "source": source, "target": target, "intervention": "ablation", "difference": difference, "p_holm": p_holm,
        "p_value": p_holm,
    }  # fmt: skip


def test_the_transfer_grid_stars_what_holm_confirms(capsys: pytest.CaptureFixture[str]):
    rows = [_change("en", "de", 0.9, 1e-6), _change("en", "yo", None, None), _change("en", "fr", 0.96, 0.2)]
    rows += [_change("random-0", "de", 0.02, 1.0), _change("shuffled", "de", -0.04, None)]
    print_transfer_grid(rows)
    lines = _lines(capsys.readouterr().out)
    assert lines[3:6] == [["fr", "+96"], ["de", "+90*", "-1"], ["yo"]]


def test_compare_shows_one_column_a_run(capsys: pytest.CaptureFixture[str]):
    rows = [_rate("en", 1, run="a") | {"p_holm": None}, _rate("en", 7, run="b") | {"p_holm": 0.001}]
    print_compare_grid(rows)
    assert ["en", "10", "70*"] in _lines(capsys.readouterr().out)


def test_small_numbers_keep_their_digits():
    assert readable(5.96046e-08) == "6.0e-08"
    assert [readable(value) for value in (0.0, 0.05, None, 3, True)] == ["0.000", "0.050", "", "3", "True"]


def test_a_table_is_never_cut_where_nobody_s_terminal_would_break_it(capsys: pytest.CaptureFixture[str]):
    print_rows([{"name": "x" * 300, "p": 5.96046e-08}], ("name", "p"), Format.table)
    printed = capsys.readouterr().out
    assert "x" * 300 in printed
    assert "6.0e-08" in printed


def test_json_and_csv_hold_the_whole_rows(capsys: pytest.CaptureFixture[str]):
    row: Row = {"name": "ö,\n", "p": 5.96046e-08}
    print_rows([row], ("name", "p"), Format.json)
    assert json.loads(capsys.readouterr().out) == [row]
    print_rows([row], ("name", "p"), Format.csv)
    assert capsys.readouterr().out == 'name,p\n"ö,\n",5.96046e-08\n'


def test_escape_sequences_of_a_run_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]):
    print_rates_grid([_rate("\x1b[31men", 1)])
    assert "\x1b[31m" not in capsys.readouterr().out


def test_version():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"refusal-lens {__version__}\n")


def test_help_shows_every_command_whole_under_a_heading():
    result = CliRunner().invoke(app, ["--help"])
    shown = [line.split()[0] for line in result.stdout.splitlines() if line.startswith("  ") and line[2:3].isalpha()]
    commands = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    assert set(commands) <= set(shown)
    assert all(f"\n{title}:" in result.stdout for title in GROUPS)
    assert "..." not in result.stdout.partition("\nStart:")[2]  # the usage line above ends in [ARGS]...


def test_help_imports_no_model_library():
    code = "import sys, refusal_lens.cli.app; print(sorted({'torch', 'transformers', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
