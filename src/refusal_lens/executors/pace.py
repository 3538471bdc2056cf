"""How long the rest of a plan takes, from the weights of its tasks and the pace so far; and progress as lines of text.

1. A task's weight is what it costs in any unit, known before it runs (`pipeline.weights` takes tokens).
2. A step's pace is seconds per weight of its tasks so far, the share that a running task says it has done included.
3. A step that has not begun takes the pace of all others together. Without weights it is left out.

It is a forecast: answers may end early, and what weighs nothing is not in it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from refusal_lens.types import Advance, Outcome, Task

SILENCE = 60.0
"""Seconds after which a sign of life is given."""


@dataclass
class Running:
    """A task at work: since when, how far it says it is, and what is computed with it."""

    since: float
    share: float = 0.0
    words: str = ""
    others: tuple[str, ...] = ()


class Pace:
    """How far the tasks of a plan are, and how long the rest takes."""

    def __init__(
        self, task_ids: Sequence[str], *, workers: int = 1, weights: Mapping[str, float] | None = None
    ) -> None:
        """Take the plan's tasks; without weights all count alike, and only steps that have begun are forecast."""
        self.totals = Counter(map(_step, task_ids))
        self.done: Counter[str] = Counter()
        self._weights = dict.fromkeys(task_ids, 1.0) if weights is None else weights
        self._whole = weights is not None
        self._workers = workers
        self._left = dict.fromkeys(self.totals, 0.0)
        for task_id in task_ids:
            self._left[_step(task_id)] += self._weights[task_id]
        self._all = sum(self._left.values())
        self._seconds = dict.fromkeys(self.totals, 0.0)
        self._computed = dict.fromkeys(self.totals, 0.0)

    def add(self, task_id: str, seconds: float, *, computed: bool = True) -> None:
        """Enter a finished task; one that was valid already says nothing of the pace."""
        step, weight = _step(task_id), self._weights[task_id]
        self.done[step] += 1
        self._left[step] -= weight
        if computed:
            self._seconds[step] += seconds
            self._computed[step] += weight

    def share(self, running: Mapping[str, Running]) -> float:
        """Part of the plan's weight that is done, running tasks included."""
        inner = sum(item.share * self._weight(task_id, item) for task_id, item in running.items())
        return 1.0 - (sum(self._left.values()) - inner) / self._all if self._all else 1.0

    def left(self, running: Mapping[str, Running], *, now: float = 0.0) -> float | None:
        """Seconds until the plan is done, or without weights the steps begun; None while nothing can be told or is left."""
        seconds, computed, rest = dict(self._seconds), dict(self._computed), dict(self._left)
        for task_id, item in running.items():
            if item.share > 0:
                step, part = _step(task_id), item.share * self._weight(task_id, item)
                seconds[step] += now - item.since
                computed[step] += part
                rest[step] -= part
        every = sum(computed.values()) if self._whole else 0.0
        mean = sum(spent for step, spent in seconds.items() if computed[step]) / every if every else None
        total = 0.0
        for step, weight in rest.items():
            pace = seconds[step] / computed[step] if computed[step] else mean
            total += weight * (pace or 0.0)
        return total / self._workers if total > 0 else None

    def _weight(self, task_id: str, item: Running) -> float:
        return sum(self._weights[name] for name in (task_id, *item.others))


class Lines:
    """Progress as lines: a tenth of a step is done, a task failed, and a sign of life where a minute brought neither."""

    def __init__(
        self,
        task_ids: Sequence[str],
        show: Callable[[str], object],
        *,
        workers: int = 1,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """Take all tasks of the plan, what shows a line, and what the tasks weigh."""
        self.pace = Pace(task_ids, workers=workers, weights=weights)
        self.running: dict[str, Running] = {}
        self._told = Counter[str]()
        self._of = "" if weights is not None else " of the steps begun"
        self._show = show
        self._began = self._said = time.monotonic()

    @property
    def left(self) -> str:
        """About how long the rest takes, in words; empty where nothing can be told."""
        seconds = self.pace.left(dict(self.running), now=time.monotonic())
        return "" if seconds is None else f"about {duration(seconds)} left{self._of}"

    @property
    def foremost(self) -> tuple[str, Running] | None:
        """The task to name: of those that say how far they are, or else of all, the one that runs longest."""
        running = list(self.running.items())
        return max(running, key=lambda pair: (bool(pair[1].words), -pair[1].since)) if running else None

    @property
    def now(self) -> str:
        """What is running, since when, how far, and how long the rest takes; empty where nothing runs."""
        found = self.foremost
        if found is None:
            return ""
        task_id, item = found
        beside = sum(1 + len(one.others) for one in list(self.running.values())) - 1
        more = f" and {beside} more" if beside else ""
        known = [f"{time.monotonic() - item.since:.0f} s", item.words, self.left]
        return f"running {task_id}{more} ({'; '.join(filter(None, known))})"

    def started(self, task: Task) -> None:
        """A task was given to a worker, alone or with others."""
        others = tuple(other.task_id for other in task.members[1:])
        self.running[task.task_id] = Running(time.monotonic(), others=others)

    def advanced(self, advance: Advance) -> None:
        """A running task said how far it is."""
        if (item := self.running.get(advance.task_id)) is not None:
            item.share, item.words = advance.share, advance.words

    def moved(self, outcome: Outcome, _total: int) -> None:
        """A task ended; of several that ended together the last is told."""
        self.running.pop(outcome.task_id, None)
        step = _step(outcome.task_id)
        total = self.pace.totals[step]
        self.pace.add(outcome.task_id, outcome.seconds, computed=outcome.status == "done")
        if outcome.status == "failed":
            self._say(f"{outcome.task_id} failed")
        tenths = 10 * self.pace.done[step] // total
        if tenths > self._told[step] and not outcome.more:
            self._told[step] = tenths
            known = [f"{time.monotonic() - self._began:.0f} s", self.left]
            self._say(f"{step}: {self.pace.done[step]} of {total} ({', '.join(filter(None, known))})")

    def still(self) -> None:
        """Say what is running, where nothing was said for a minute."""
        if time.monotonic() - self._said >= SILENCE and (now := self.now):
            self._say(now)

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        self._show(line)


@contextmanager
def heartbeat(lines: Lines) -> Generator[None]:
    """Ask in a thread of its own, every quarter of a minute, whether a sign of life is due."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(SILENCE / 4):
            lines.still()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _step(task_id: str) -> str:
    return task_id.partition("/")[0]
