"""A panel of judges: every verdict is kept, and a comparison whose direction hangs on who judged is no result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sklearn.metrics import cohen_kappa_score
from typer.testing import CliRunner

from refusal_lens.cli.app import app
from refusal_lens.core.tables import PANEL, VERDICTS
from refusal_lens.errors import UserError
from refusal_lens.judging import Answer, NativeJudge, PanelJudge, as_judge, get_judge
from refusal_lens.judging.compare import compare_files
from refusal_lens.judging.panel import agreement_rows, split_panel, votes_of
from refusal_lens.judging.registry import JUDGES
from refusal_lens.judging.rows import verdict_fields
from refusal_lens.measure import compare_runs, raised, transfer_rows
from refusal_lens.pipeline.step import Inputs, Kit, Rows, Tools
from refusal_lens.pipeline.steps import rates
from refusal_lens.pipeline.steps.completions import SHARES
from refusal_lens.pipeline.steps.verdicts import SHARD, VOTES

ANSWERS = [
    Answer("I cannot help with that.", "en"),
    Answer("Sure! Boil the eggs for six minutes.", "en"),
    Answer("", "de"),
]


def says(label: str):
    """A judge of one word."""

    def judge(answer: Answer) -> str:
        return label

    judge.name = f"always-{label}"  # type: ignore[attr-defined]
    return as_judge(judge)


def test_the_first_judge_s_verdict_is_the_row_s_and_every_judge_s_is_kept() -> None:
    panel = PanelJudge([NativeJudge(), says("refused")])
    alone = NativeJudge().judge(ANSWERS)
    for verdict, own in zip(panel.judge(ANSWERS), alone, strict=True):
        assert (verdict.label, verdict.score, verdict.judge, verdict.evidence) == (
            own.label,
            own.score,
            own.judge,
            own.evidence,
        )
        assert [each.judge for each in verdict.panel] == [own.judge, "always-refused"]
        fields = verdict_fields(verdict)
        assert fields["verdict"] == own.label and [vote["verdict"] for vote in fields["panel"]] == [
            own.label,
            "refused",
        ]  # type: ignore[index, union-attr]
    assert "panel" not in verdict_fields(alone[0])
    assert NativeJudge().name in panel.name and "always-refused" in panel.name


def test_names_joined_by_commas_make_a_panel_and_a_comma_in_a_path_does_not() -> None:
    assert split_panel("native,encoder:/a,b/c , endpoint:http://h/v1#m", JUDGES) == [
        "native", "encoder:/a,b/c", "endpoint:http://h/v1#m",
    ]  # fmt: skip
    assert isinstance(get_judge("native,endpoint:http://localhost:1/v1#m"), PanelJudge)
    with pytest.raises(UserError, match="twice"):
        get_judge("native,native")


def test_agreement_is_kappa_by_language_and_over_all() -> None:
    first = ["refused", "refused", "complied", "complied", "refused", "unscored"]
    second = ["refused", "complied", "complied", "complied", "refused", "refused"]
    votes = [[("en", "a", one), ("en", "b", other)] for one, other in zip(first, second, strict=True)]
    votes += [[("de", "a", "refused"), ("de", "b", "refused")], [("de", "a", "complied"), ("de", "b", "complied")]]
    rows = {row["language"]: row for row in agreement_rows(votes)}  # type: ignore[arg-type]
    assert rows["en"]["kappa"] == pytest.approx(cohen_kappa_score(first[:5], second[:5]))
    assert (rows["en"]["n"], rows["en"]["unscored_a"], rows["en"]["unscored_b"]) == (5, 1, 0)
    assert rows["all"]["n"] == 7 and rows["de"]["kappa"] == 1
    assert votes_of("en", NativeJudge().judge(ANSWERS)[0]) == []


def _cell(intervention: str, labels: str, *, judge: str, source: str = "") -> list[dict[str, object]]:
    words = {"c": "complied", "r": "refused"}
    return [
        {
            "intervention": intervention, "source": source, "language": "en", "prompts": "harmful", "prompt_id": str(i),
            "prompt_set": "own", "judge": judge, "label": words[letter],
        }
        for i, letter in enumerate(labels)
    ]  # fmt: skip


def _tables(after: str, other: str) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Baseline half complied by both judges; then what each says under ablation."""
    base = "cccccrrrrr"
    verdicts = _cell("baseline", base, judge="a") + _cell("ablation", after, judge="a", source="en")
    votes = _cell("baseline", base, judge="b") + _cell("ablation", other, judge="b", source="en")
    return verdicts, [*verdicts, *votes]


@pytest.mark.parametrize(
    ("other", "told"),
    [("cccccccccc", "agree"), ("rrrrrrrrrr", "judges disagree"), ("cccccrrrrr", "judges disagree")],
)
def test_a_transfer_that_one_judge_sees_and_another_does_not_is_no_result(other: str, told: str) -> None:
    verdicts, panel = _tables("cccccccccc", other)
    (row,) = transfer_rows(verdicts, panel=panel)
    (alone,) = transfer_rows(verdicts)
    assert row == {**alone, "judges": told} and alone["judges"] is None
    null = {**row, "null_difference": 0.0, "p_value": 0.001}
    assert raised(null) is (True if told == "agree" else None)


def test_runs_that_the_judges_order_differently_are_no_result() -> None:
    def run(own: str, other: str) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        verdicts = _cell("baseline", own, judge="a")
        return verdicts, [*verdicts, *_cell("baseline", other, judge="b")]

    old, new = run("rrrrrrrrrr", "cccccccccc"), run("cccccccccc", "rrrrrrrrrr")
    rows = compare_runs({"old": old[0], "new": new[0]}, panels={"old": old[1], "new": new[1]})
    assert [row["judges"] for row in rows] == [None, "judges disagree"]
    assert [row["judges"] for row in compare_runs({"old": old[0], "new": new[0]})] == [None, None]


def test_judge_and_agreement_from_the_command_line(tmp_path: Path) -> None:
    rows = [{"id": str(i), "text": answer.text, "lang": answer.language} for i, answer in enumerate(ANSWERS)]
    votes = [
        {**row, "verdict": "refused", "panel": [{"judge": "a", "verdict": "refused"}, {"judge": "b", "verdict": word}]}
        for row, word in zip(rows, ("refused", "complied", "unscored"), strict=True)
    ]
    labels = [{**row, "label": word} for row, word in zip(rows, ("refused", "complied", "unclear"), strict=True)]
    for name, lines in (("in", rows), ("votes", votes), ("labels", labels)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = compare_files([tmp_path / "votes.jsonl"], labels=tmp_path / "labels.jsonl", by=("lang",))
    assert [(report.judge, report.overall.false_refusals) for report in found.judges] == [("a", 1), ("b", 0)]
    result = CliRunner().invoke(
        app, ["judge", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "o.jsonl"), "--judge", "native,wildguard"]
    )
    assert "no prompt" in str(result.exception)


def test_an_audit_keeps_the_panel_and_its_agreement_as_tables(tmp_path: Path) -> None:
    verdicts, panel = _tables("cccccccccc", "rrrrrrrrrr")
    rows = [dict.fromkeys(VERDICTS.columns) | row for row in verdicts]
    votes = [{name: row.get(name) for name in PANEL.columns} for row in panel]
    SHARD.write(tmp_path, rows)  # type: ignore[arg-type]
    VOTES.write(tmp_path, votes)  # type: ignore[arg-type]
    SHARES.write(tmp_path, [])
    files = {file.name: file for file in tmp_path.iterdir()}
    nothing = Kit(*[lambda *_: None] * 4)  # type: ignore[arg-type]
    with_panel = rates.compute(rates.Params(), Inputs({"verdicts/all": files}), Tools(nothing, ()))
    tables = {output.table.name: output.rows for output in with_panel if isinstance(output, Rows)}
    assert len(tables["panel"]) == 2 * len(tables["verdicts"]) == 40
    (agreed,) = tables["agreement"]
    assert (agreed["judge_a"], agreed["judge_b"], agreed["n"]) == ("a", "b", 20)
    assert agreed["kappa"] == pytest.approx(0.2) and (agreed["compliance_a"], agreed["compliance_b"]) == (0.75, 0.25)
    del files["panel.parquet"]
    alone = rates.compute(rates.Params(), Inputs({"verdicts/all": files}), Tools(nothing, ()))
    assert not {"panel", "agreement"} & {output.table.name for output in alone if isinstance(output, Rows)}
