"""Steps `rates` and `overview`: the final tables that need no more than verdicts and the selection's own records."""

from __future__ import annotations

import json
from collections import Counter
from typing import cast

from refusal_lens.measure import rate_rows
from refusal_lens.pipeline.steps.answers import VERDICTS, in_order
from refusal_lens.pipeline.tabular import FLAG, INTEGER, REAL, TEXT, Row, read_rows, schema, write_table
from refusal_lens.pipeline.workshop import Job

RATES = schema(
    intervention=TEXT,
    source=TEXT,
    language=TEXT,
    prompts=TEXT,
    k=INTEGER,
    n=INTEGER,
    unscored=INTEGER,
    rate=REAL,
    low=REAL,
    high=REAL,
    prompt_set=TEXT,
    truncated=INTEGER,
    uncertain=INTEGER,
    off_language=INTEGER,
)
UNSCORED = schema(intervention=TEXT, source=TEXT, language=TEXT, prompts=TEXT, reason=TEXT, n=INTEGER, prompt_set=TEXT)
CANDIDATES = schema(
    source=TEXT,
    position=INTEGER,
    layer=INTEGER,
    refusal_score=REAL,
    steering_score=REAL,
    kl_div_score=REAL,
    discarded=TEXT,
    selected=FLAG,
)
SELECTION = schema(
    source=TEXT,
    rule=TEXT,
    status=TEXT,
    position=INTEGER,
    layer=INTEGER,
    reason=TEXT,
    refusal_score=REAL,
    steering_score=REAL,
    kl_div_score=REAL,
    mode=TEXT,
)
TOKENS = schema(language=TEXT, token_id=INTEGER, token=TEXT, share=REAL, coverage=REAL)
FILTERING = schema(language=TEXT, harm=TEXT, split=TEXT, asked=INTEGER, kept=INTEGER, dropped=INTEGER, filtered=FLAG)
SITE = ("position", "layer", "refusal_score", "steering_score", "kl_div_score")
MISSING = schema(language=TEXT, split=TEXT, harm=TEXT, prompt_set=TEXT, why=TEXT)


def rates(job: Job) -> None:
    """Rates with intervals, unscored answers by reason, and every verdict (without text)."""
    verdicts = in_order(read_rows(job.input(task_id, "verdicts.parquet")) for task_id in job.inputs_of("verdicts"))
    write_table(job.folder, "verdicts", verdicts, VERDICTS, csv=True)
    write_table(job.folder, "rates", rate_rows(verdicts), RATES, csv=True)
    keys = ("intervention", "source", "language", "prompts", "prompt_set", "reason")
    counted = Counter(tuple(row[key] for key in keys) for row in verdicts if row["label"] == "unscored")
    rows: list[Row] = [dict(zip(keys, group, strict=True)) | {"n": count} for group, count in counted.items()]
    write_table(job.folder, "unscored", rows, UNSCORED, csv=True)


def overview(job: Job) -> None:
    """How directions were found (tokens, filtering, every candidate's scores and fate, the choice), and what was missing."""
    _selection_tables(job)
    found: list[Row] = []
    for task_id in job.inputs_of("tokens"):
        item = json.loads(job.input(task_id, "tokens.json").read_text(encoding="utf-8"))
        found += [
            {
                "language": item["language"],
                "token_id": token_id,
                "token": token,
                "share": share,
                "coverage": item["coverage"],
            }
            for token_id, token, share in zip(item["ids"], item["tokens"], item["shares"], strict=True)
        ]
    write_table(job.folder, "refusal_tokens", found, TOKENS, csv=True)
    kept: list[Row] = []
    for task_id in job.inputs_of("filtering"):
        asked: Counter[tuple[str, str]] = Counter()
        passed: Counter[tuple[str, str]] = Counter()
        filtered = False
        for row in read_rows(job.input(task_id, "kept.parquet")):
            group = (str(row["harm"]), str(row["split"]))
            asked[group] += 1
            passed[group] += bool(row["kept"])
            filtered = bool(row["filtered"])
        language = task_id.removeprefix("filtering/")
        kept += [
            {
                "language": language,
                "harm": harm,
                "split": split,
                "asked": n,
                "kept": passed[harm, split],
                "dropped": n - passed[harm, split],
                "filtered": filtered,
            }
            for (harm, split), n in asked.items()
        ]
    write_table(job.folder, "filtering", kept, FILTERING, csv=True)
    keys = ("language", "split", "harm", "prompt_set", "why")
    missing = cast("list[list[str]]", job.task.params["missing"])
    write_table(job.folder, "missing", [dict(zip(keys, item, strict=True)) for item in missing], MISSING, csv=True)


def _selection_tables(job: Job) -> None:
    candidates: list[Row] = []
    chosen: list[Row] = []
    for task_id in job.inputs_of("selection"):
        source = task_id.removeprefix("selection/")
        result = json.loads(job.input(task_id, "selection.json").read_text(encoding="utf-8"))
        measured = json.loads(job.input(f"scores/{source}", "scores.json").read_text(encoding="utf-8"))
        why = {
            (item["candidate"]["position"], item["candidate"]["layer"]): item["reason"] for item in result["discarded"]
        }
        best = result["selected"] or result["best_discarded"]
        for item in measured["scores"]:
            site = (item["position"], item["layer"])
            is_selected = result["selected"] is not None and site == (best["position"], best["layer"])
            fate: Row = {"source": source, "discarded": why.get(site), "selected": is_selected}
            candidates.append({**{key: item[key] for key in SITE}, **fate})
        chosen.append(
            {
                "source": source,
                "rule": result["rule"],
                "status": result["status"],
                "reason": result["reason"],
                "mode": measured["mode"],
                **({key: best[key] for key in SITE} if best else {}),
            }
        )
    write_table(job.folder, "candidates", candidates, CANDIDATES, csv=True)
    write_table(job.folder, "selection", chosen, SELECTION, csv=True)
