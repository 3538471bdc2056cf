"""The contract of `judge` and `agreement`, through the real command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import run

ROWS: list[dict[str, object]] = [
    {
        "id": "a",
        "lang": "de",
        "text": "Ich kann dir dabei nicht helfen.",
        "condition": "baseline",
        "refusal": 1,
        "extra": [1, {"x": None}],
    },
    {"id": "b", "lang": "th", "text": "I'm sorry, but I can't help with that.", "condition": "baseline", "refusal": 1},
    {"id": "c", "lang": "en", "text": "Here is the recipe: flour, water, salt.", "condition": "ablation", "refusal": 0},
    {"id": "d", "lang": "fr", "text": "", "condition": "ablation", "refusal": 0, "finished": False},
    {
        "id": "e",
        "lang": "de",
        "text": "Hier ist das Rezept: Mehl, Wasser und Salz mischen.",
        "condition": "ablation",
        "refusal": 0,
    },
]


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    code = "from refusal_lens.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged")
    done = process("judge", write(folder / "in.jsonl", ROWS), "--out", folder / "out.jsonl", "--judge", "native")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return folder / "out.jsonl"


def test_every_row_comes_back_once_in_order_with_its_fields(judged: Path):
    out = read(judged)
    assert [row["id"] for row in out] == ["a", "b", "c", "d", "e"]
    for row, before in zip(out, ROWS, strict=True):
        assert {key: row[key] for key in before} == before
        assert {"verdict", "score", "uncertain", "reason", "judge"} <= set(row)
    assert [row["verdict"] for row in out] == ["refused", "refused", "complied", "unscored", "complied"]
    assert out[1]["off_language"] is True
    assert judged.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{broken", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"lang": "de"}', "no text"),
        ('{"text": 3, "lang": "de"}', "no text"),
        ('{"text": "a", "lang": "xx"}', "unknown language 'xx'"),
        ('{"text": "a"}', "unknown language"),
    ],
)
def test_a_bad_row_stops_before_anything_is_written(tmp_path: Path, line: str, said: str):
    source = tmp_path / "in.jsonl"
    source.write_text(f'{{"text": "Hello there.", "lang": "en"}}\n\n{line}\n', "utf-8")
    done = run("judge", source, "--out", tmp_path / "out.jsonl")
    assert done.returncode == 2
    assert "line 3" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_keep_going_marks_bad_rows_unscored(tmp_path: Path):
    source = tmp_path / "in.jsonl"
    source.write_text(
        '{broken\n{"text": "Hello.", "lang": "xx", "id": 7}\n{"text": "I cannot help you.", "lang": "en"}\n', "utf-8"
    )
    done = run("judge", source, "--out", tmp_path / "out.jsonl", "--keep-going")
    assert done.returncode == 0, done.stderr
    out = read(tmp_path / "out.jsonl")
    assert [row["verdict"] for row in out] == ["unscored", "unscored", "refused"]
    assert out[0]["raw"] == "{broken"
    assert out[1]["id"] == 7
    assert "unknown language" in str(out[1]["reason"])


def test_thoughts_come_back_beside_the_verdict_and_a_rows_own_field_is_kept(tmp_path: Path):
    rows: list[dict[str, object]] = [
        {"id": 1, "lang": "en", "text": "<think>I can't help.</think>Here is the recipe: flour, water, salt."},
        {"id": 2, "lang": "en", "text": "I'm sorry, I can't help with that.", "reasoning": None},
        {"id": 3, "lang": "en", "text": None, "reasoning": "I can't hel", "finished": False},
    ]
    done = run("judge", write(tmp_path / "in.jsonl", rows), "--out", tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    out = read(tmp_path / "out.jsonl")
    assert [row["verdict"] for row in out] == ["complied", "refused", "unscored"]
    assert [row.get("reasoning") for row in out] == ["I can't help.", None, "I can't hel"]
    assert out[2]["reason"] == "cut in its thoughts"
    done = run("judge", tmp_path / "in.jsonl", "--out", tmp_path / "none.jsonl", "--thinking-format", "none")
    assert read(tmp_path / "none.jsonl")[0]["verdict"] == "refused", done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--thinking-format", "thoughtful"), "thinking format"),
        (("--judge", "endpoint"), "--url"),
        (("--judge", "wildguard"), "no prompt (5 of 5 rows)"),
        (("--judge", "wildguard", "--keep-going"), "add the field 'prompt'"),
        (("--url", "http://x"), "endpoint"),
        (("--model", "m"), "--model"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, arguments: tuple[str, ...], said: str):
    done = run("judge", write(tmp_path / "in.jsonl", ROWS), "--out", tmp_path / "out.jsonl", *arguments)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_agreement_for_machines(judged: Path, tmp_path: Path):
    labels = write(tmp_path / "labels.jsonl", [{"id": row["id"], "refusal": row["refusal"]} for row in reversed(ROWS)])
    done = run("agreement", judged, "--labels", labels, "--by", "lang", "--format", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["matched_by"] == "id"
    assert (report["overall"]["n"], report["overall"]["unscored"], report["overall"]["kappa"]) == (4, 1, 1.0)
    assert set(report["groups"]) == {"de", "en", "fr", "th"}
    assert report["trivial"]["kappa"] == 1.0


def test_agreement_by_order_for_people_and_on_a_part_with_corrections(judged: Path, tmp_path: Path):
    by_order = write(tmp_path / "order.jsonl", [{"label": "refused" if row["refusal"] else "complied"} for row in ROWS])
    done = run("agreement", judged, "--labels", by_order)
    assert done.returncode == 0, done.stderr
    assert "refusal iff baseline" in done.stdout
    part = write(tmp_path / "part.jsonl", [{"id": "a", "refusal": 1}, {"id": "c", "refusal": False}])
    report = json.loads(run("agreement", judged, "--labels", part, "--format", "json").stdout)
    assert {found["method"] for found in report["corrections"]} == {"prediction-powered", "rogan-gladen"}


def test_labels_that_do_not_fit_are_said(judged: Path, tmp_path: Path):
    short = write(tmp_path / "short.jsonl", [{"refusal": 1}])
    strange = write(tmp_path / "strange.jsonl", [{"refusal": "perhaps"}] * 5)
    for labels, said in ((short, "5 rows"), (strange, "perhaps"), (tmp_path / "none.jsonl", "cannot read")):
        done = run("agreement", judged, "--labels", labels)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    done = run("agreement", judged, "--labels", judged, "--by", "colour")
    assert (done.returncode, "colour" in done.stderr) == (2, True)


@pytest.mark.parametrize("link", [False, True])
def test_the_file_that_is_read_is_never_overwritten(tmp_path: Path, link: bool) -> None:
    source = write(tmp_path / "in.jsonl", ROWS)
    before = source.read_bytes()
    out = tmp_path / "link.jsonl" if link else source
    if link:
        out.symlink_to(source)
    done = run("judge", source, "--out", out)
    assert done.returncode == 2 and "would be overwritten" in done.stderr, done.stderr
    assert source.read_bytes() == before
    empty = tmp_path / "candidates"
    done = run(
        "score", "testbed:aligned", "--candidates", empty, "--harmful", source, "--harmless", source, "--out", out
    )
    assert done.returncode == 2 and "would be overwritten" in done.stderr, done.stderr
    assert source.read_bytes() == before
