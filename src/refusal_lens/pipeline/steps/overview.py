"""Step `overview`: how directions were found (tokens, filtering, every candidate, the choice), and what prompts were missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from refusal_lens.core.tables import (
    CANDIDATES,
    FILTERING,
    MISSING,
    REFUSAL_TOKENS,
    SELECTION,
    CandidateRow,
    FilteringRow,
    MissingRow,
    RefusalTokenRow,
    SelectionRow,
)
from refusal_lens.pipeline.dataset import Missing
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Inputs, Output, Rows, Step, Tools
from refusal_lens.pipeline.steps.filtering import TABLE as KEPT
from refusal_lens.pipeline.steps.scores import FILE as SCORES
from refusal_lens.pipeline.steps.selection import FILE as CHOICE
from refusal_lens.pipeline.steps.tokens import FILE as TOKENS


@dataclass(frozen=True)
class Params:
    """Cells of prompts that were wanted and are not there."""

    missing: tuple[Missing, ...]


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """One task."""
    read = planning.ids("tokens", "filtering", "scores", "selection")
    yield Ask("all", Params(planning.dataset.missing), read)


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:  # noqa: ARG001
    """Bring the steps' own records into tables."""
    candidates, chosen = _selection(inputs)
    missing: list[MissingRow] = [
        {
            "language": item.language,
            "split": item.split,
            "harm": item.harm,
            "prompt_set": item.prompt_set,
            "why": item.why,
        }
        for item in params.missing
    ]
    return [
        Rows(CANDIDATES, candidates),
        Rows(SELECTION, chosen),
        Rows(REFUSAL_TOKENS, _tokens(inputs)),
        Rows(FILTERING, _filtering(inputs)),
        Rows(MISSING, missing),
    ]


def _tokens(inputs: Inputs) -> list[RefusalTokenRow]:
    found = [inputs.json(task_id, TOKENS) for task_id in inputs.of("tokens").values()]
    return [
        {
            "language": item["language"],
            "token_id": token_id,
            "token": token,
            "share": share,
            "coverage": item["coverage"],
        }
        for item in found
        for token_id, token, share in zip(item["ids"], item["tokens"], item["shares"], strict=True)
    ]


def _filtering(inputs: Inputs) -> list[FilteringRow]:
    rows: list[FilteringRow] = []
    for language, task_id in inputs.of("filtering").items():
        kept = inputs.rows(KEPT, task_id)
        asked = Counter((row["harm"], row["split"]) for row in kept)
        passed = Counter((row["harm"], row["split"]) for row in kept if row["kept"])
        rows.extend(
            [
                {
                    "language": language,
                    "harm": harm,
                    "split": split,
                    "asked": n,
                    "kept": passed[harm, split],
                    "dropped": n - passed[harm, split],
                    "filtered": any(row["filtered"] for row in kept),
                }
                for (harm, split), n in asked.items()
            ]
        )
    return rows


def _selection(inputs: Inputs) -> tuple[list[CandidateRow], list[SelectionRow]]:
    candidates: list[CandidateRow] = []
    chosen: list[SelectionRow] = []
    for source, task_id in inputs.of("selection").items():
        result = inputs.json(task_id, CHOICE)
        measured = inputs.json(f"scores/{source}", SCORES)
        why = {
            (item["candidate"]["position"], item["candidate"]["layer"]): item["reason"] for item in result["discarded"]
        }
        best = result["selected"] or result["best_discarded"] or {}
        site = (best["position"], best["layer"]) if result["selected"] else None
        candidates.extend(
            [
                {
                    "source": source,
                    "position": item["position"],
                    "layer": item["layer"],
                    "refusal_score": item["refusal_score"],
                    "steering_score": item["steering_score"],
                    "kl_div_score": item["kl_div_score"],
                    "discarded": why.get((item["position"], item["layer"])),
                    "selected": (item["position"], item["layer"]) == site,
                }
                for item in measured["scores"]
            ]
        )
        chosen.append(
            {
                "source": source,
                "rule": result["rule"],
                "status": result["status"],
                "position": best.get("position"),
                "layer": best.get("layer"),
                "reason": result["reason"],
                "refusal_score": best.get("refusal_score"),
                "steering_score": best.get("steering_score"),
                "kl_div_score": best.get("kl_div_score"),
                "mode": measured["mode"],
            }
        )
    return candidates, chosen


STEP = Step(
    name="overview",
    version=1,
    params=Params,
    plan=plan,
    compute=compute,
    reads=("tokens", "filtering", "scores", "selection"),
    tables=(CANDIDATES, SELECTION, REFUSAL_TOKENS, FILTERING, MISSING),
    published=True,
)
