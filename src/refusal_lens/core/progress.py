"""How far a long computation is, told to whoever listens around it; where nobody does, nothing happens.

Loops of more than a few seconds (answers, the sweep, batches of prompts, requests) call `tell` as often as they like: it looks at
the clock, and passes on at most one report a second. What is told is no part of any result, and a listener that fails (a closed
terminal, a parent that is gone) stops no work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias

Listener: TypeAlias = Callable[[float, str], None]
"""Told (share done in [0, 1], the same in words)."""

EVERY = 1.0
"""Least seconds between two reports."""


@dataclass
class _Listening:
    listener: Listener
    due: float


_listening: ContextVar[_Listening | None] = ContextVar("_listening", default=None)


@contextmanager
def listening(listener: Listener) -> Generator[None]:
    """Pass what loops inside the context tell to a listener, the first report after a second.

    Args:
        listener: Told of the work of this thread.
    """
    token = _listening.set(_Listening(listener, time.monotonic() + EVERY))
    try:
        yield
    finally:
        _listening.reset(token)


def tell(done: int, total: int, what: str | Callable[[], str]) -> None:
    """Say how far a loop is.

    Args:
        done: Work that is done, in any unit.
        total: All of it, at most.
        what: The unit, as in "12 of 40 answers judged"; or what makes the whole text, called only where somebody hears it.
    """
    found = _listening.get()
    if found is None or (now := time.monotonic()) < found.due:
        return
    found.due = now + EVERY
    words = f"{done:,} of {total:,} {what}" if isinstance(what, str) else what()
    with suppress(OSError, ValueError):  # ValueError: a stream that was closed
        found.listener(min(1.0, done / total) if total else 0.0, words)
