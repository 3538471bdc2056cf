"""view: files for the owner alone, the run stays sound, scrubbed and damaged text, and the same answers from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from answer_runs import Said, make_answers
from refusal_lens import open_run
from refusal_lens.cli.app import app
from refusal_lens.errors import LensError
from refusal_lens.report import answers as drawing
from refusal_lens.rundir import RunDir, scrub, verify_chain

CELLS = {
    ("baseline", "", "en"): [Said("p1", "No, I cannot.", "refused"), Said("p2", "Yes \ud800 of course", "complied")],
    ("ablation", "en", "en"): [Said("p1", "Yes, like this.", "complied"), Said("p2", "Yes, so.", "complied")],
    ("baseline", "", "de"): [Said("p1", "Nein.", "refused")],
}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    said = {
        place: [item._replace(text=item.text.replace("\ud800", "")) for item in cell] for place, cell in CELLS.items()
    }
    return make_answers(tmp_path / "run", said, prompts={"p1": "How?", "p2": "Why?"})


def view(*words: object) -> Result:
    return CliRunner().invoke(app, ["view", *map(str, words)])


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_page_and_its_rows_are_their_owners_alone(run: RunDir, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    result = view(run.root, "--export", out)
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout.strip() == str(out / "index.html")
    assert {item.name: mode(item) for item in out.iterdir()} == {"index.html": 0o600, "answers.jsonl": 0o600}
    assert mode(out) == 0o700
    rows = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert [(row["condition"], row["lang"], row["text"], row["untouched"]) for row in rows] == [
        ("baseline", "en", "No, I cannot.", None),
        ("baseline", "en", "Yes  of course", None),
        ("baseline", "de", "Nein.", None),
        ("ablation en", "en", "Yes, like this.", "refused"),
        ("ablation en", "en", "Yes, so.", "complied"),
    ]
    page = (out / "index.html").read_text()
    assert "default-src 'none'" in page
    assert "unsafe" not in page.split("<style>")[0]


def test_an_empty_folder_is_closed_and_a_strangers_keeps_its_mode(run: RunDir, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir(mode=0o755)
    (tmp_path / "used").mkdir(mode=0o755)
    (tmp_path / "used" / "mine.txt").write_text("mine")
    for name, wanted in (("empty", 0o700), ("used", 0o755)):
        assert view(run.root, "--export", tmp_path / name).exit_code == 0
        assert mode(tmp_path / name) == wanted
        assert mode(tmp_path / name / "index.html") == 0o600


def test_without_a_folder_it_lies_in_the_run_and_goes_with_scrub(run: RunDir) -> None:
    assert view(run.root).exit_code == 0
    assert mode(run.root / "view") == 0o700
    assert not verify_chain(run).problems
    scrub(run)
    assert not (run.root / "view").exists()
    result = view(run.root)
    assert isinstance(result.exception, LensError)
    assert result.exception.exit_code == 2
    assert "scrubbed" in str(result.exception)
    assert [row["text"] for row in open_run(run.root).answers().to_pylist()] == [None] * 5


def test_languages_and_limit_choose_and_say_what_is_there(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = open_run(run.root)
    assert found.answers(languages=["de"]).column("text").to_pylist() == ["Nein."]
    assert found.answers(limit=1).column("prompt_id").to_pylist() == ["p1"] * 3
    wrong = view(run.root, "--languages", "xx")
    assert isinstance(wrong.exception, LensError)
    assert "the run has de, en" in str(wrong.exception)
    monkeypatch.setattr(drawing, "MOST", 4)
    made = drawing.build_view(run.root, out=tmp_path / "few")
    assert (made.answers, made.limited) == (3, 1)
    assert "At most 1 answers" in made.page.read_text()


def test_a_changed_answer_is_refused(run: RunDir) -> None:
    file = next(run.root.glob("data/completions/*/completions.parquet"))
    file.chmod(0o600)
    file.write_bytes(file.read_bytes() + b" ")
    result = view(run.root)
    assert isinstance(result.exception, LensError)
    assert "recorded digest" in str(result.exception)


@pytest.mark.parametrize("evidence", [None, "", "[", "{}", "[[1]]", '[["a", 5, 2], ["b", -1, 3], ["c", 0, true]]'])
def test_evidence_that_cannot_be_read_marks_nothing(evidence: str | None) -> None:
    assert drawing.spans(evidence) == []


def test_overlapping_evidence_and_emoji_keep_their_places() -> None:
    text = "🙂 cannot help you"
    marks = json.dumps([["inability", 2, 13], ["decline", 9, 18], ["late", 40, 50]])
    assert drawing._parts(text, marks) == [
        "🙂 ",
        ["cannot ", "inability"],
        ["help", "decline, inability"],
        [" you", "decline"],
    ]
