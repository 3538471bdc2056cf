"""CPU seconds, wall seconds and peak memory of a piece of work, and the line that reports a comparison."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Cost:
    """Seconds of processor time (all threads) and of wall clock."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Line:
    """One comparison.

    Attributes:
        name: What was measured.
        ours: Our cost in seconds (or MiB for memory lines).
        baseline: The baseline's, scaled to the same amount of work.
        difference: Largest absolute difference between the two results; None where nothing is compared.
        note: How the two were made comparable.
    """

    name: str
    ours: Cost
    baseline: Cost
    difference: float | None
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times less processor time (or memory) ours takes."""
        return self.baseline.cpu / self.ours.cpu if self.ours.cpu else float("inf")

    def text(self) -> str:
        """The line `make bench` prints."""
        difference = "-" if self.difference is None else f"{self.difference:.1e}"
        return (
            f"{self.name}: ours {self.ours.cpu:.2f} baseline {self.baseline.cpu:.2f} ratio {self.ratio:.2f} "
            f"wall {self.ours.wall:.2f}/{self.baseline.wall:.2f} max-difference {difference} "
            f"threads {torch.get_num_threads()}{f' ({self.note})' if self.note else ''}"
        )

    def record(self) -> dict[str, object]:
        """The line as a JSON object."""
        return {**asdict(self), "ratio": round(self.ratio, 3), "threads": torch.get_num_threads()}


def timed(work: Callable[[], object]) -> Cost:
    """Cost of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.process_time() - cpu, time.perf_counter() - wall)


def interleaved(ours: Callable[[], object], baseline: Callable[[], object], repeats: int) -> tuple[Cost, Cost]:
    """Medians of alternating runs, so that both contenders see the same load on the machine."""
    pairs = [(timed(ours), timed(baseline)) for _ in range(repeats)]
    return _median([pair[0] for pair in pairs]), _median([pair[1] for pair in pairs])


def scaled(cost: Cost, factor: float) -> Cost:
    """Cost of `factor` times the work."""
    return Cost(cost.cpu * factor, cost.wall * factor)


def forget_peak() -> None:
    """Start a new peak: Linux keeps one high-water mark per process, and loading a model sets it."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def resident_memory(*, peak: bool = False) -> float:
    """Resident memory of this process in MiB, now or the highest since `forget_peak`."""
    name = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def _median(costs: list[Cost]) -> Cost:
    return Cost(statistics.median(cost.cpu for cost in costs), statistics.median(cost.wall for cost in costs))
