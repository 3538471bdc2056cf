"""Makes run directories for the report's tests: real files with the real schemas, numbers drawn to look like a run's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from refusal_lens.core.tables import TABLES
from refusal_lens.languages import get_language
from refusal_lens.measure import wilson
from refusal_lens.rundir import RunDir
from refusal_lens.types import JsonValue, Task

LANGUAGES = ("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo", "zh")
PROMPTS = 24
Row = dict[str, object]
Tables = dict[str, list[Row]]


def make_run(
    root: Path,
    *,
    languages: Sequence[str] = LANGUAGES,
    sources: Sequence[str] = ("en",),
    valid: bool = True,
    random: int = 3,
    n: int = 100,
    n_layers: int = 6,
    leave_out: Sequence[str] = (),
    verdict: Mapping[str, object] | None = None,
    seed: int = 0,
) -> RunDir:
    """A run directory with every final table except those left out."""
    run = RunDir.create(root, header=_header(languages, sources, random, n))
    run.tables_dir.mkdir(exist_ok=True)
    tables = make_tables(
        languages=languages, sources=sources, valid=valid, random=random, n=n, n_layers=n_layers, seed=seed
    )
    for name, rows in tables.items():
        if name not in leave_out:
            write_rows(run, name, rows)
    import json

    if "verdict" not in leave_out:
        written = verdict or {
            "verdict": "universal" if valid else "no valid direction",
            "languages": {
                code: {"status": "own only" if code in sources else "undefined" if code == "yo" else "served"}
                for code in languages
            },
            "reasons": ["every language that could show it is served"],
        }
        (run.tables_dir / "verdict.json").write_text(json.dumps(written))
    if "geometry" not in leave_out:
        (run.tables_dir / "geometry.json").write_text(
            json.dumps({"leak": {"rho": -0.61, "low": -0.87, "high": -0.12}, "stability": {"same_layer": 0.84}})
        )
    return run


def make_tables(
    *, languages: Sequence[str], sources: Sequence[str], valid: bool, random: int, n: int, n_layers: int, seed: int
) -> Tables:
    """All final tables as rows."""
    rng = np.random.default_rng(seed)
    base = {
        code: float(np.clip(rng.normal(0.06 if get_language(code).tier == "high" else 0.14, 0.05), 0.0, 1.0))
        for code in languages
    }
    if "yo" in base:
        base["yo"] = 0.88
    used = [*(sources if valid else ()), *(f"random-{index}" for index in range(random if valid else 0))]
    rates: list[Row] = []
    for code in languages:
        rates += [
            _rate("baseline", "", code, "harmful", base[code], n, rng),
            _rate("baseline", "", code, "harmless", 0.98, n, rng),
        ]
        for source in used:
            null = source.startswith("random-")
            rates.append(
                _rate(
                    "ablation",
                    source,
                    code,
                    "harmful",
                    base[code] if null else max(base[code], rng.uniform(0.72, 1.0)),
                    n,
                    rng,
                )
            )
            rates.append(_rate("addition", source, code, "harmless", 0.97 if null else rng.uniform(0.05, 0.4), n, rng))
            if not null:
                rates += [
                    _rate("ablation", source, code, "harmless", 0.98, n, rng),
                    _rate("addition", source, code, "harmful", 0.03, n, rng),
                ]
    tables: Tables = {"rates": rates, "transfer": _transfer(rates), **_selection(sources, valid, n_layers, rng)}
    tables["refusal_tokens"] = [
        {"language": code, "token_id": 10 + index, "token": token, "share": share, "coverage": 0.93}
        for code in languages
        for index, (token, share) in enumerate([(" I", 0.7), ("Sor\nry", 0.23)])
    ]
    tables["filtering"] = [
        {"language": code, "harm": harm, "split": "train", "asked": 128, "kept": 120, "dropped": 8}
        for code in sources
        for harm in ("harmful", "harmless")
    ]
    tables["missing"] = [{"language": "zh", "split": "test", "harm": "harmless", "why": "no such file"}]
    tables["unscored"] = [
        {
            "intervention": row["intervention"],
            "source": row["source"],
            "language": row["language"],
            "prompts": row["prompts"],
            "reason": "degenerate",
            "n": row["unscored"],
        }
        for row in rates
        if row["unscored"]
    ]
    tables["content"] = [_content(row, rng) for row in rates if row["intervention"] == "ablation"]
    tables["damage"] = [
        {
            "intervention": "ablation",
            "source": source,
            "language": code,
            "kl": float(rng.uniform(0, 0.02)),
            "cross_entropy_before": 2.5,
            "cross_entropy_after": 2.5 + float(rng.normal(0, 0.01)),
        }
        for source in used
        for code in languages
    ]
    tables["selectivity"] = [
        {
            "intervention": kind,
            "source": source,
            "language": code,
            "selectivity": 0.9 if kind == "baseline" else 0.1,
            "low": 0.0,
            "high": 0.95,
        }
        for code in languages
        for kind, source in (("baseline", ""), *(("ablation", source) for source in used))
    ]
    return {**tables, **_geometry(languages, base, n_layers, rng)}


def _rate(
    intervention: str, source: str, language: str, prompts: str, share: float, n: int, rng: np.random.Generator
) -> Row:
    unscored = int(rng.binomial(n, 0.03))
    scored = n - unscored
    k = int(rng.binomial(scored, min(1.0, share)))
    low, high = wilson(k, scored)
    return {
        "intervention": intervention,
        "source": source,
        "language": language,
        "prompts": prompts,
        "k": k,
        "n": scored,
        "unscored": unscored,
        "rate": k / scored if scored else None,
        "low": low,
        "high": high,
        "prompt_set": "testbed",
    }


def _transfer(rates: list[Row]) -> list[Row]:
    harm = {"ablation": "harmful", "addition": "harmless"}
    before = {(row["language"], row["prompts"]): row for row in rates if row["intervention"] == "baseline"}
    rows: list[Row] = []
    for row in rates:
        kind = str(row["intervention"])
        if kind == "baseline" or row["prompts"] != harm[kind]:
            continue
        old, new = before[row["language"], row["prompts"]]["rate"], row["rate"]
        assert isinstance(old, float) and isinstance(new, float)
        sure = abs(new - old) > 0.15
        rows.append(
            {
                "source": row["source"],
                "target": row["language"],
                "intervention": kind,
                "baseline_rate": old,
                "rate": new,
                "difference": new - old,
                "low": new - old - 0.08,
                "high": new - old + 0.08,
                "p_value": 1e-9 if sure else 0.4,
                "p_holm": 1e-7 if sure else 1.0,
                "n": 97,
            }
        )
    return rows


def _selection(sources: Sequence[str], valid: bool, n_layers: int, rng: np.random.Generator) -> Tables:
    candidates: list[Row] = []
    chosen: list[Row] = []
    for source in sources:
        own: list[Row] = []
        for position in range(-5, 0):
            for layer in range(n_layers):
                kl = float(rng.exponential(0.08))
                late = layer >= int(0.8 * n_layers)
                reason = (
                    f"layer {layer} is in the last 20 %"
                    if late
                    else f"KL {kl:.3f} above 0.2"
                    if kl > 0.2
                    else None
                    if valid
                    else "addition score below 0"
                )
                own.append(
                    {
                        "source": source,
                        "position": position,
                        "layer": layer,
                        "refusal_score": float(rng.normal(-2 - layer, 2)),
                        "steering_score": float(rng.normal(1, 2)),
                        "kl_div_score": kl,
                        "discarded": reason,
                        "selected": False,
                    }
                )
        kept = [row for row in own if row["discarded"] is None] if valid else own
        best = min(kept, key=lambda row: float(str(row["refusal_score"])))
        best["selected"] = valid
        candidates += own
        status = "selected" if valid else "no valid direction"
        chosen.append(
            {
                **{
                    name: best[name]
                    for name in ("source", "position", "layer", "refusal_score", "steering_score", "kl_div_score")
                },
                "rule": "paper",
                "status": status,
                "reason": None if valid else "every candidate was dropped",
                "norm": 3.4,
            }
        )
    return {"candidates": candidates, "selection": chosen}


def _content(row: Row, rng: np.random.Generator) -> Row:
    complied = int(str(row["k"]))
    on_topic = int(rng.binomial(complied, 0.8))
    return {
        **{name: row[name] for name in ("intervention", "source", "language", "prompts")},
        "complied": complied,
        "on_topic": on_topic,
        "hollow": complied - on_topic,
        "rate_on_topic": on_topic / int(str(row["n"])),
        "prompt_set": row["prompt_set"],
    }


def _geometry(languages: Sequence[str], base: Mapping[str, float], n_layers: int, rng: np.random.Generator) -> Tables:
    cosines: list[Row] = []
    projection: list[Row] = []
    separation: list[Row] = []
    for layer in range(n_layers):
        for first in range(len(languages)):
            for second in range(first + 1, len(languages)):
                value = float(np.clip(0.4 + 0.08 * layer + rng.normal(0, 0.06), -1, 1))
                cosines.append(
                    {
                        "layer": layer,
                        "language_a": languages[first],
                        "language_b": languages[second],
                        "cosine": value,
                        "low": value - 0.05,
                        "high": min(1.0, value + 0.05),
                        "null_low": -0.15,
                        "null_high": 0.16,
                        "masked": layer == 0,
                    }
                )
        for code in languages:
            gap = 4 * (1 - base[code])
            separation.append(
                {
                    "layer": layer,
                    "language": code,
                    "auc": 0.99 - 0.3 * base[code],
                    "d_prime": gap,
                    "margin": gap / 2 - 0.5 + float(rng.normal(0, 0.1)),
                    "silhouette": 0.3,
                    "baseline_compliance": base[code],
                    "tier": get_language(code).tier,
                }
            )
            for harm, shift in (("harmful", gap), ("harmless", 0.0)):
                for index in range(PROMPTS):
                    along = float(rng.normal(shift, 1))
                    projection.append(
                        {
                            "layer": layer,
                            "language": code,
                            "harm": harm,
                            "prompt_id": f"{harm}-{index}",
                            "pc1": along + float(rng.normal()),
                            "pc2": float(rng.normal()),
                            "along": along,
                        }
                    )
    sharing: list[Row] = [
        {
            "layer": layer,
            "language": code,
            "effective_rank": 2.5,
            "shared": 0.7,
            "private": 0.3,
            "reliability": 0.95,
            "norm": 3.0,
            "masked": layer == 0,
        }
        for layer in range(n_layers)
        for code in languages
    ]
    two: list[Row] = [
        {"layer": layer, "language": code, "cosine": 0.2, "auc_harmfulness": 0.8, "auc_refusal": 0.97}
        for layer in range(n_layers)
        for code in languages
    ]
    return {
        "cosines": cosines,
        "projection": projection,
        "separation": separation,
        "sharing": sharing,
        "two_directions": two,
    }


def _header(languages: Sequence[str], sources: Sequence[str], random: int, n: int) -> dict[str, JsonValue]:
    return {
        "config": {
            "model": {"spec": "testbed:aligned", "revision": None, "dtype": "auto"},
            "data": {"root": None, "languages": list(languages), "limit": n, "prompt_sets": []},
            "directions": {"sources": list(sources), "n_train": 128, "n_val": 32, "rule": "paper", "random": random},
            "interventions": {"affine": False, "variant": "exact", "coefficient": 1.0},
            "generation": {"max_new_tokens": 64},
            "seed": 0,
        },
        "command": "refusal-lens demo --out run",
        "model_digest": "0" * 64,
        "judge": "native-2+0f3a",
        "data_digests": {},
        "versions": {"python": "3.11", "torch": "2.13.0"},
        "machine": "x86_64",
    }


def write_rows(run: RunDir, name: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Replace one final table; columns that a row does not give are null, or empty where they may not be."""
    table = TABLES[name]
    filling = {column.name: None if column.nullable else column.type() for column in table.described}
    full = [{**filling, **{key: value for key, value in row.items() if key in filling}} for row in rows]
    pq.write_table(pa.Table.from_pylist(full, schema=table.schema), run.tables_dir / f"{name}.parquet")


def write_completions(run: RunDir, *, language: str, text: str, prompt: str) -> None:
    """Finished `prompts`, `completions` tasks of one language with one harmful prompt, baseline and ablation."""
    source = Task("prompts", 1, f"{language}.test")
    with run.writing(source) as folder:
        rows = [{"prompt_id": "p1", "language": language, "harm": "harmful", "text": prompt}]
        pq.write_table(pa.Table.from_pylist(rows), folder / "prompts.parquet")
    cells: list[list[JsonValue]] = [
        ["baseline", [""], language, "harmful", None],
        ["ablation", ["en", "random-0"], language, "harmful", None],
    ]
    for cell in cells:
        name = f"{cell[0]}.{language}.0"
        with run.writing(Task("completions", 1, name, {"cells": cell}, (source.task_id,))) as folder:
            said = {"": text, "en": text, "random-0": "an answer under a null direction, never shown"}
            rows = [
                {"source": source, "prompt_id": "p1", "text": said[source], "n_tokens": 5, "finished": True}
                for source in cell[1]
            ]
            pq.write_table(pa.Table.from_pylist(rows), folder / "completions.parquet")
