"""docs/paper.md: its table is what bench/paper_hours.py prints, and that is right where it can be told by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import paper_hours

from refusal_lens.report.figure1 import published, same_model

PAGE = (Path(__file__).parents[2] / "docs" / "paper.md").read_text(encoding="utf-8")
BY_NAME = {model.name: model for model in paper_hours.MODELS}


def test_the_page_holds_the_printed_table_and_a_command_for_each_model() -> None:
    assert "\n".join(paper_hours.lines()) in PAGE, "python -m bench.paper_hours prints the table of today"
    assert list(BY_NAME) == list(published()["models"])
    for model in paper_hours.MODELS:
        assert same_model(model.name, model.hub), "figure1 would not find the paper's values for it"
        assert f"refusal-lens audit {model.hub} --data PolyRefuse --out runs/" in PAGE


@pytest.mark.parametrize(
    ("model", "untouched", "ablated"),
    [("Yi-6B-Chat", 60, 97), ("gemma-2-9b-it", 7, 94), ("Qwen2.5-7B", 19, 98), ("Qwen2.5-32B", 14, 70)],
)
def test_recorded_means_are_those_of_the_figure(model: str, untouched: int, ablated: int) -> None:
    found = [paper_hours.recorded(model, condition) for condition in ("untouched", "ablated")]
    assert [item.split("\u202f")[0].split("\xa0")[0].split(" ")[0] for item in found] == [str(untouched), str(ablated)]


def test_the_cost_model_meets_the_measured_card_and_counts_the_plans_answers() -> None:
    qwen = BY_NAME["Qwen2.5-7B"]
    assert paper_hours.speed(qwen).writing == pytest.approx(21_328, rel=1e-3)  # measured with 256 answers
    # seven cells a class: untouched, ablated, added, and four nulls (three random, one shuffled)
    writing = 14 * 7 * (572 + 500) * 512 / 21_328 / 3600
    assert writing < paper_hours.hours(qwen, bars_alone=False) < 1.15 * writing
    # untouched both classes, ablated both, and the shuffled null on harmful prompts
    bars = 14 * (572 * 3 + 500 * 2) * 512 / 21_328 / 3600
    assert bars < paper_hours.hours(qwen, bars_alone=True) < 1.3 * bars
    assert BY_NAME["Llama-3-70B"].cards == 2
