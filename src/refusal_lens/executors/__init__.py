"""Executors: where a run's tasks are computed. `local` is the reference; `ray` spreads over machines."""

from __future__ import annotations

import importlib.util
from typing import Literal

from refusal_lens.errors import UserError
from refusal_lens.executors.base import Executor, OnAdvance, SequentialExecutor, Session, Worker, WorkerFactory
from refusal_lens.executors.pool import PoolExecutor

__all__ = ["Executor", "OnAdvance", "SequentialExecutor", "Session", "Worker", "WorkerFactory", "get_executor"]


def get_executor(
    name: Literal["local", "ray"],
    *,
    workers: int = 1,
    address: str | None = None,
    gpus_per_worker: float = 0.0,
    on_advance: OnAdvance | None = None,
) -> Executor:
    """The executor that transport settings ask for.

    Args:
        name: `local` (this machine) or `ray` (a Ray cluster).
        workers: Number of worker processes; 1 with `local` computes in this process.
        address: Address of a running Ray cluster; None starts one on this machine.
        gpus_per_worker: GPUs that each Ray worker reserves; may be a fraction.
        on_advance: Told in this process how far a running task is.

    Returns:
        The executor.

    Raises:
        UserError: A setting does not fit the executor, Ray is not installed, or nothing answers at the address.
    """
    if name == "local":
        if address is not None:
            raise UserError("--address names a Ray cluster: add --executor ray, or leave it out")
        return SequentialExecutor(on_advance) if workers == 1 else PoolExecutor(workers, on_advance)
    if importlib.util.find_spec("ray") is None:
        raise UserError("--executor ray needs Ray: pip install 'refusal-lens[ray]'")
    from refusal_lens.executors.on_ray import RayExecutor, check_address

    if address is not None:
        check_address(address)
    return RayExecutor(workers, address=address, gpus_per_worker=gpus_per_worker, on_advance=on_advance)
