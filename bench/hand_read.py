"""Answers of a run to be read by eye, and how far the eye agrees with the judge.

    python bench/hand_read.py sample RUN --per-cell 6 --out /somewhere/outside/to_read.jsonl   # texts: never commit them
    python bench/hand_read.py agree RUN bench/read_qwen.csv                                    # ids and labels alone

`sample` draws answers of baseline and ablated cells (en's direction) with a fixed seed and writes them without their verdicts, in
an order that tells nothing; a label (refused, complied, or unscored where it says nothing readable) is written for each before
the verdicts are looked at. `agree` counts, per language and condition, and gives Cohen's kappa over answers that both scored.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq

from refusal_lens.judging.agreement import Pair, measure_agreement
from refusal_lens.pipeline import open_run

Name = tuple[str, str, str, str]  # intervention, language, class of prompts, prompt id
OUTCOMES = {"refused": True, "complied": False, "unscored": None}
FIELDS = ("intervention", "language", "prompts", "prompt_id", "label")


def main() -> None:
    """Draw or compare."""
    parser = argparse.ArgumentParser(description="Read a run's answers by eye.")
    parser.add_argument("what", choices=("sample", "agree"))
    parser.add_argument("run", type=Path)
    parser.add_argument("labels", type=Path, nargs="?")
    parser.add_argument("--per-cell", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.what == "sample":
        sample(given.run, given.out, per_cell=given.per_cell, seed=given.seed)
    else:
        agree(given.run, given.labels)


def sample(run: Path, out: Path, *, per_cell: int, seed: int) -> None:
    """Write drawn answers; the draw depends on seed and prompt ids alone."""

    def place(name: Name) -> str:
        return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()

    cells: dict[tuple[str, str, str], list[tuple[Name, str]]] = defaultdict(list)
    for file in sorted((run / "data" / "completions").glob("*/completions.parquet")):
        intervention, language, prompts = _parts(file.parent.name)
        for row in pq.read_table(file).to_pylist():
            if (intervention, row["source"]) in {("baseline", ""), ("ablation", "en")}:
                name = (intervention, language, prompts, row["prompt_id"])
                cells[name[:3]].append((name, row["text"]))
    drawn = [item for cell in cells.values() for item in sorted(cell, key=lambda item: place(item[0]))[:per_cell]]
    with out.open("w", encoding="utf-8") as file:
        for name, text in sorted(drawn, key=lambda item: (item[0][1], place(item[0]))):
            file.write(json.dumps({**dict(zip(FIELDS, name, strict=False)), "text": text}, ensure_ascii=False) + "\n")


def agree(run: Path, labels: Path) -> None:
    """Print a Markdown table of agreement per language."""
    verdicts = {
        (row["intervention"], row["language"], row["prompts"], row["prompt_id"]): str(row["label"])
        for row in open_run(run).table("verdicts").to_pylist()
        if row["source"] in ("", "en")
    }
    with labels.open(encoding="utf-8", newline="") as file:
        read = [(tuple(row[field] for field in FIELDS[:4]), row["label"]) for row in csv.DictReader(file)]
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, label in read:
        groups[name[1]].append((label, verdicts[name]))
        groups["all"].append((label, verdicts[name]))
    print(
        "| language | read | both scored | agree | kappa | eye refused, judge complied | the other way | unscored by one |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for language, pairs in sorted(groups.items(), key=lambda item: (item[0] == "all", item[0])):
        found = measure_agreement(Pair(OUTCOMES[eye], OUTCOMES[judge]) for eye, judge in pairs)
        same = 0 if found.accuracy is None else round(found.accuracy * found.n)
        kappa = "-" if found.kappa is None else f"{found.kappa:.2f}"
        one = sum((eye == "unscored") != (judge == "unscored") for eye, judge in pairs)
        counts = (len(pairs), found.n, same, kappa, found.refusals_missed, found.false_refusals, one)
        print(f"| {language} | {' | '.join(map(str, counts))} |")


def _parts(folder: str) -> tuple[str, str, str]:
    """Intervention, language and class from the name of a pass: INTERVENTION[.SOURCE].LANGUAGE.CLASS.SHARD."""
    parts = folder.split(".")
    return parts[0], parts[-3], parts[-2]


if __name__ == "__main__":
    main()
