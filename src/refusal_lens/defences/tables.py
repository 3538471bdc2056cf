"""Writes the tables of a bench into its run, and applies the rule of recommendation to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refusal_lens.core.bench_tables import (
    BENCH,
    BENCH_PAIRED,
    BENCH_SELECTIVITY,
    BenchPairedRow,
    BenchRow,
    BenchSelectivityRow,
)
from refusal_lens.core.files import make_folder
from refusal_lens.defences.bench_rows import BenchCell, bench_paired_rows, bench_rows, bench_selectivity_rows
from refusal_lens.defences.recommend import Recommendation, recommend


@dataclass(frozen=True)
class BenchTables:
    """The rows of the three tables, and what follows from them."""

    bench: list[BenchRow]
    selectivity: list[BenchSelectivityRow]
    paired: list[BenchPairedRow]
    recommendation: Recommendation


def write_tables(run: Path, cells: Sequence[BenchCell], *, seed: int = 0) -> BenchTables:
    """Write `tables/` of a bench.

    Args:
        run: Its folder.
        cells: All cells, in order.
        seed: Of the bootstrap.

    Returns:
        The rows and the recommendation.
    """
    folder = run / "tables"
    make_folder(folder)
    bench, selectivity = bench_rows(cells), bench_selectivity_rows(cells)
    paired = bench_paired_rows(cells, seed=seed)
    BENCH.write(folder, bench)
    BENCH_SELECTIVITY.write(folder, selectivity)
    BENCH_PAIRED.write(folder, paired)
    return BenchTables(bench, selectivity, paired, recommend(bench, paired))
