"""Every Eval Ever, schema 0.3.0: one JSON file with a result for every cell of `rates` (evalevalai.com; tests hold the schema).

The score is the compliance rate of the table, for harmful prompts (lower is better) as for harmless ones (higher is better);
the interval is the table's. Random and shuffled directions are results too, and named as nulls. No instance file is written:
prompts and answers stay in the run.
"""

from __future__ import annotations

import json

from refusal_lens.core.names import BASELINE, is_null
from refusal_lens.core.tables import RateRow
from refusal_lens.exports.measured import LIBRARY, Measured, name_of, now
from refusal_lens.report.words import verdict_of
from refusal_lens.types import JsonValue

SCHEMA_VERSION = "0.3.0"
RULE_JUDGE = "native"
WHAT = {
    "harmful": "Share of judged answers to harmful prompts that comply",
    "harmless": "Share of judged answers to harmless prompts that comply",
}


def to_eee(run: Measured) -> bytes:
    """The run as one record of Every Eval Ever.

    Args:
        run: What was measured.

    Returns:
        JSON, UTF-8.
    """
    model, stamp = run.facts.model, str(int(now().timestamp()))
    record: dict[str, JsonValue] = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{LIBRARY}/{model.replace('/', '_')}/{stamp}",
        **({"evaluation_timestamp": run.finished} if run.finished else {}),
        "retrieved_timestamp": stamp,
        "source_metadata": {
            "source_name": LIBRARY,
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
            "additional_details": _texts({
                "verdict": verdict[0] if (verdict := verdict_of(run.facts)) else None,
                "cells_without_a_rate": run.unmeasured,
            }),
        },
        "eval_library": {
            "name": LIBRARY,
            "version": run.version,
            "additional_details": _texts({"judge": run.facts.judge or None, "seed": run.facts.config.get("seed")}),
        },
        "model_info": _model(run),
        "evaluation_results": [_result(run, row) for row in run.rows],
    }  # fmt: skip
    return (json.dumps(record, ensure_ascii=False, indent=1) + "\n").encode("utf-8", errors="replace")


def _model(run: Measured) -> JsonValue:
    facts = run.facts
    versions = facts.inputs.header.get("versions")
    engine = versions.get("transformers") if isinstance(versions, dict) else None
    details = {
        "deployment_type": "self_deployed",
        "model_availability": "open_weights" if _on_the_hub(facts.model) else "unknown",
        "model_digest": facts.inputs.header.get("model_digest"),
        "revision": facts.setting("model", "revision"),
        "dtype": facts.setting("model", "dtype"),
    }
    return {
        "name": facts.model,
        "id": facts.model,
        **({"developer": facts.model.partition("/")[0]} if _on_the_hub(facts.model) else {}),
        **({"inference_engine": {"name": "transformers", "version": engine}} if isinstance(engine, str) else {}),
        "additional_details": _texts(details),
    }


def _on_the_hub(model: str) -> bool:
    return model.count("/") == 1


def _result(run: Measured, row: RateRow) -> JsonValue:
    condition = {"language": row["language"], "prompts": row["prompts"], "intervention": row["intervention"]}
    name = name_of(row)
    args: dict[str, JsonValue] = {"temperature": 0.0}
    if run.max_new_tokens is not None:
        args["max_tokens"] = run.max_new_tokens
    if run.command:
        args["execution_command"] = run.command
    under = "" if row["intervention"] == BASELINE else f", {row['intervention']} of the direction {row['source']}"
    return {
        "evaluation_result_id": f"{LIBRARY}.{name}",
        "evaluation_name": name,
        "source_data": {
            "dataset_name": row["prompt_set"] or "unknown",
            "source_type": "other",
            "additional_details": {"language": row["language"], "prompts": row["prompts"], "split": "test"},
        },
        "metric_config": {
            "evaluation_description": f"{WHAT.get(row['prompts'], 'Share that complies')}, language {row['language']}{under}",
            "metric_id": f"{LIBRARY}.compliance_rate",
            "metric_name": "Compliance rate",
            "metric_kind": "compliance_rate",
            "metric_unit": "proportion",
            "metric_parameters": {**condition, "source": row["source"], "null_direction": is_null(row["source"])},
            "lower_is_better": row["prompts"] == "harmful",
            "score_type": "continuous",
            "min_score": 0.0,
            "max_score": 1.0,
            **_judged_by_a_model(run),
            "additional_details": _texts({"judge": run.facts.judge or None}),
        },
        "score_details": {
            "score": row["rate"],
            "details": _texts({
                name: row[name] for name in ("k", "n", "unscored", "truncated", "uncertain", "off_language")
            }),
            "uncertainty": {
                **_interval(row),
                "num_samples": row["n"],
            },
        },
        "generation_config": {"generation_args": args, "additional_details": {"decoding": "greedy"}},
    }  # fmt: skip


def _interval(row: RateRow) -> dict[str, JsonValue]:
    if row["low"] is None or row["high"] is None:
        return {}
    ends: JsonValue = {"lower": row["low"], "upper": row["high"], "confidence_level": 0.95, "method": "Wilson score"}
    return {"confidence_interval": ends}


def _judged_by_a_model(run: Measured) -> dict[str, JsonValue]:
    """What the schema wants of a judge that is a model; nothing for the native judge, which is a set of rules."""
    judge = run.facts.judge
    if not judge or judge.startswith(RULE_JUDGE):
        return {}
    details: JsonValue = {"deployment_type": "unknown", "model_availability": "unknown"}
    model: JsonValue = {"name": judge, "id": judge, "additional_details": details}
    return {"llm_scoring": {"judges": [{"model_info": model}], "input_prompt": "the judge's own; see docs/judges.md"}}


def _texts(values: dict[str, JsonValue] | dict[str, object]) -> JsonValue:
    """Details as the schema has them: every value a string, what is not known left out."""
    return {name: str(value) for name, value in values.items() if value is not None}
