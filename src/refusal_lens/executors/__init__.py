"""Executors: where a run's tasks are computed. `local` is the reference; `ray` spreads over machines."""

from __future__ import annotations

from refusal_lens.executors.base import Executor, Session, Worker, WorkerFactory
from refusal_lens.executors.choose import get_executor
from refusal_lens.executors.local import SequentialExecutor

__all__ = ["Executor", "SequentialExecutor", "Session", "Worker", "WorkerFactory", "get_executor"]
