"""Hugging Face: `.eval_results/*.yaml` of a model repository, and the `model-index` block of its card.

Both are made by huggingface_hub's own types. Every value is the table's: the compliance rate of the untouched model in one
language, on harmful prompts (lower is better) and on harmless ones (higher is better). The hub puts an entry on a
leaderboard only where the data set is a registered benchmark, whose id `--dataset` names.
"""

from __future__ import annotations

from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml
from huggingface_hub.utils import yaml_dump

from refusal_lens.core.tables import RateRow
from refusal_lens.exports.measured import LIBRARY, Measured
from refusal_lens.report.facts import language_name
from refusal_lens.report.shares import percent, share_of, span

METRIC = "compliance_rate"
NAMES = {"harmful": "harmful prompts answered", "harmless": "harmless prompts answered"}


def to_eval_results(run: Measured, *, dataset: str | None = None) -> bytes:
    """The untouched model's rates as entries of `.eval_results/*.yaml`.

    Args:
        run: What was measured.
        dataset: Hub id of the benchmark; None for the prompt set's own name.

    Returns:
        YAML, UTF-8.
    """
    entries = [
        EvalResultEntry(
            dataset_id=dataset or row["prompt_set"] or "unknown",
            task_id=f"{row['prompts']}_{row['language']}",
            value=row["rate"],
            date=None if run.finished is None else run.finished[:10],
            notes=_notes(run, row),
        )
        for row in run.untouched()
    ]
    return yaml_dump(eval_result_entries_to_yaml(entries)).encode("utf-8", errors="replace")


def to_model_card(run: Measured, *, dataset: str | None = None) -> bytes:
    """The same as the metadata block of a model card: `model-index`, between two lines of `---`.

    Args:
        run: What was measured.
        dataset: Hub id of the data set; None for the prompt set's own name.

    Returns:
        YAML in its fences, UTF-8.
    """
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=dataset or row["prompt_set"] or "unknown",
            dataset_name=f"{row['prompt_set'] or 'unknown'} ({language_name(row['language'])}, {row['prompts']})",
            dataset_config=f"{row['prompts']}_{row['language']}",  # the card's own key: one result for each
            dataset_split="test",
            metric_type=METRIC,
            metric_value=row["rate"],
            metric_name=f"{NAMES.get(row['prompts'], row['prompts'])}, {_spread(row)}",
        )
        for row in run.untouched()
    ]
    data = ModelCardData(model_name=run.facts.model.rpartition("/")[2], eval_results=results, tags=[LIBRARY])
    return f"---\n{data.to_yaml()}\n---\n".encode("utf-8", errors="replace")


def _spread(row: RateRow) -> str:
    ends = span(row["low"], row["high"])
    return f"{row['k']} of {row['n']}{f', 95 % interval {ends} %' if ends else ''}".replace("\N{NO-BREAK SPACE}", " ")


def _notes(run: Measured, row: RateRow) -> str:
    share = share_of(row)
    said = [
        f"{NAMES.get(row['prompts'], row['prompts'])}: {percent(share.rate)}, {_spread(row)}",
        f"{share.unscored} not judged" if share.unscored else "",
        f"judge {run.facts.judge}" if run.facts.judge else "",
        f"greedy, at most {run.max_new_tokens} tokens" if run.max_new_tokens is not None else "",
        f"{LIBRARY} {run.version}",
    ]
    return "; ".join(part for part in said if part).replace("\N{NO-BREAK SPACE}", " ")
