"""Pre-registration: a plan is locked before a run, and a finished run is held against it.

A plan is a TOML file: hypotheses in words, any settings of an audit's configuration under `[audit]`, and claims about rates.

    hypotheses = ["One direction carries refusal in every language that refuses."]
    [audit.data]
    languages = ["en", "de", "yo"]
    limit = 100                      # n: test prompts per language and class; "all" for every prompt
    [audit.directions]
    random = 3                       # nulls
    [[claims]]
    language = "yo"
    prompts = "harmful"
    below = 0.2                      # or above; intervention = "ablation", source = "en" for one with a direction

The lock is the plan with its time and a SHA-256 over both. A claim is supported where the whole 95 % interval lies on its side of
the threshold, refuted where it lies on the other, else undecided. The time is the word of the machine that locked: publish
the lock's digest, or sign it, before the run begins. What no plan names is not checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias, cast

from refusal_lens.config import read_settings
from refusal_lens.core.digests import digest_json
from refusal_lens.core.json_files import read_object
from refusal_lens.core.names import BASELINE, RANDOM
from refusal_lens.core.tables import RATES, RateRow
from refusal_lens.errors import DataError, UserError
from refusal_lens.rundir import RunDir
from refusal_lens.types import JsonValue

SCHEMA_VERSION = 1
ALL = "all"
NEEDED = ("data.languages", "data.limit", "directions.random")
CLAIM_KEYS = {"text", "language", "prompts", "intervention", "source", "below", "above"}
Outcome: TypeAlias = Literal["kept", "deviation", "supported", "refuted", "undecided"]


@dataclass(frozen=True)
class Claim:
    """A claim about one rate: which cell, on which side of which threshold."""

    language: str
    prompts: str
    intervention: str
    source: str
    side: Literal["below", "above"]
    threshold: float

    def __str__(self) -> str:
        """The claim in words."""
        under = "" if self.intervention == BASELINE else f", {self.intervention} of {self.source}"
        return f"{self.prompts} {self.language}{under}: compliance {self.side} {self.threshold:g}"


@dataclass(frozen=True)
class Finding:
    """One line of a check: what was planned, how it ended, and why."""

    what: str
    outcome: Outcome
    detail: str = ""


def lock_plan(plan: Path) -> dict[str, JsonValue]:
    """Read a plan and lock it.

    Args:
        plan: The TOML file.

    Returns:
        The content of `plan.lock`.

    Raises:
        UserError: The plan lacks hypotheses, languages, n or nulls, or a claim is none.
        DataError: The file cannot be read.
    """
    content = read_settings(plan)
    unknown = set(content) - {"hypotheses", "audit", "claims"}
    if unknown:
        raise UserError(f"{plan}: unknown {', '.join(sorted(unknown))}; a plan has hypotheses, [audit] and [[claims]]")
    said = content.get("hypotheses")
    if not isinstance(said, list) or not said or not all(isinstance(one, str) and one.strip() for one in said):
        raise UserError(f'{plan}: names no hypothesis; hypotheses = ["..."] says what is expected')
    known = dict(_settings(content.get("audit")))
    lacking = [name for name in NEEDED if name not in known]
    if lacking:
        raise UserError(f"{plan}: [audit] does not say {', '.join(lacking)}; languages, n and nulls belong to a plan")
    _claims(content.get("claims"), str(plan))
    body: dict[str, JsonValue] = {
        "schema_version": SCHEMA_VERSION,
        "locked_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "plan": content,
    }
    return {**body, "sha256": digest_json(body)}


def read_lock(path: Path) -> dict[str, JsonValue]:
    """Read a lock and check its digest.

    Args:
        path: `plan.lock`.

    Returns:
        Its content.

    Raises:
        DataError: It cannot be read, or was altered after it was locked.
    """
    content = read_object(path, advice="`refusal-lens preregister lock` writes one")
    body = {name: value for name, value in content.items() if name != "sha256"}
    if content.get("schema_version") != SCHEMA_VERSION or not isinstance(content.get("plan"), dict):
        raise DataError(f"{path}: is no plan.lock of schema {SCHEMA_VERSION}")
    if digest_json(body) != content.get("sha256"):
        raise DataError(f"{path}: was altered after it was locked, its digest is another")
    return content


def check_plan(run_dir: Path, lock: Path) -> list[Finding]:
    """Hold a run against its plan.

    Args:
        run_dir: The run, finished or not.
        lock: `plan.lock`.

    Returns:
        One finding for the time, for every setting that the plan names, for n and the nulls as measured, for every claim.

    Raises:
        DataError: The lock was altered.
        RunError: There is no run.
    """
    content = read_lock(lock)
    plan = cast("Mapping[str, JsonValue]", content["plan"])
    run = RunDir.open(run_dir)
    table = run.tables_dir / f"{RATES.name}.parquet"
    rates = RATES.read(table) if table.is_file() else []
    planned = dict(_settings(plan.get("audit")))
    done = dict(_settings(run.header.get("config")))
    found = [_before(run, str(content["locked_at"]))]
    for name, wanted in planned.items():
        have = done.get(name)
        same = have is None if wanted == ALL and name == "data.limit" else _alike(have, wanted)
        detail = "" if same else f"planned {json.dumps(wanted)}, done {json.dumps(have)}"
        found.append(Finding(name, "kept" if same else "deviation", detail))
    found += _measured(planned, rates)
    return [*found, *(_held(claim, rates) for claim in _claims(plan.get("claims"), str(lock)))]


def _settings(tree: JsonValue, prefix: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Every setting by its dotted name."""
    for name, value in tree.items() if isinstance(tree, dict) else ():
        if isinstance(value, dict):
            yield from _settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _alike(have: JsonValue, wanted: JsonValue) -> bool:
    """Equal; lists of languages and sets in any order."""
    if isinstance(have, list) and isinstance(wanted, list):
        return sorted(map(str, have)) == sorted(map(str, wanted))
    return have == wanted and isinstance(have, bool) == isinstance(wanted, bool)


def _before(run: RunDir, locked_at: str) -> Finding:
    """Whether the lock is older than the run's first result."""
    records = (run.record(f"{path.parent.name}/{path.stem}") for path in (run.root / "tasks").glob("*/*.json"))
    first = min((record.finished_at for record in records if record is not None), default=None)
    if first is None:
        return Finding("locked before the run", "deviation", "the run has no dated result to compare with")
    late = datetime.fromisoformat(locked_at) >= datetime.fromisoformat(first)
    return Finding(
        "locked before the run", "deviation" if late else "kept", f"locked {locked_at}, first result {first}"
    )


def _measured(planned: Mapping[str, JsonValue], rates: list[RateRow]) -> list[Finding]:
    """N and nulls as the tables have them, not as the configuration asked."""
    asked = {
        (row["language"], row["prompts"]): row["n"] + row["unscored"]
        for row in rates
        if row["intervention"] == BASELINE
    }
    limit, languages, nulls = (planned.get(name) for name in ("data.limit", "data.languages", "directions.random"))
    found: list[Finding] = []
    if isinstance(languages, list):
        gone = sorted({str(code) for code in languages} - {language for language, _ in asked})
        found.append(_finding("languages measured", not gone, f"nothing measured in {', '.join(gone)}"))
    if isinstance(limit, int):
        short = [f"{language} {prompts} {n}" for (language, prompts), n in sorted(asked.items()) if n < limit]
        found.append(
            _finding(f"{limit} prompts a cell", bool(asked) and not short, f"fewer in {', '.join(short) or 'all'}")
        )
    if isinstance(nulls, int):
        ran = len({row["source"] for row in rates if row["source"].startswith(RANDOM)})
        found.append(_finding(f"{nulls} random directions", ran >= nulls, f"{ran} measured"))
    return found


def _finding(what: str, kept: bool, why: str) -> Finding:
    return Finding(what, "kept" if kept else "deviation", "" if kept else why)


def _claims(given: JsonValue, where: str) -> list[Claim]:
    found: list[Claim] = []
    for at, item in enumerate(given if isinstance(given, list) else [], 1):
        if not isinstance(item, dict) or set(item) - CLAIM_KEYS or ("below" in item) == ("above" in item):
            raise UserError(
                f"{where}: claim {at} needs language, prompts and either below or above; it knows {CLAIM_KEYS}"
            )
        side: Literal["below", "above"] = "below" if "below" in item else "above"
        threshold, language = item[side], item.get("language")
        prompts, intervention = item.get("prompts", "harmful"), item.get("intervention", BASELINE)
        number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool) and 0 <= threshold <= 1
        if not number or not isinstance(language, str) or prompts not in ("harmful", "harmless"):
            raise UserError(
                f"{where}: claim {at}: language is a code, prompts harmful or harmless, {side} a share in [0, 1]"
            )
        source = item.get("source", "" if intervention == BASELINE else "en")
        found.append(
            Claim(language, str(prompts), str(intervention), str(source), side, float(cast("float", threshold)))
        )
    return found


def _held(claim: Claim, rates: list[RateRow]) -> Finding:
    cell = (claim.intervention, claim.source, claim.language, claim.prompts)
    rows = [row for row in rates if (row["intervention"], row["source"], row["language"], row["prompts"]) == cell]
    row = rows[0] if rows else None
    if row is None or row["low"] is None or row["high"] is None:
        return Finding(str(claim), "undecided", "not measured")
    low, high = row["low"], row["high"]
    detail = f"{row['k']} of {row['n']}, 95 % interval {low:.3f} to {high:.3f}"
    under, over = high < claim.threshold, low > claim.threshold
    if under or over:
        return Finding(str(claim), "supported" if under == (claim.side == "below") else "refuted", detail)
    return Finding(str(claim), "undecided", detail)
