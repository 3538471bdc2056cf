"""From transport settings to an executor."""

from __future__ import annotations

from typing import Literal

from refusal_lens.errors import UserError
from refusal_lens.executors.base import Executor
from refusal_lens.executors.local import SequentialExecutor


def get_executor(
    name: Literal["local", "ray"], *, workers: int = 1, address: str | None = None, gpus_per_worker: float = 0.0
) -> Executor:
    """The executor that transport settings ask for.

    Args:
        name: `local` (this machine) or `ray` (a Ray cluster).
        workers: Number of worker processes; 1 with `local` computes in this process.
        address: Address of a running Ray cluster; None starts one on this machine.
        gpus_per_worker: GPUs that each Ray worker reserves; may be a fraction.

    Returns:
        The executor.

    Raises:
        UserError: A setting does not fit the executor.
    """
    if name == "local" and address is not None:
        raise UserError("--address names a Ray cluster: add --executor ray, or leave it out")
    if name == "local" and workers == 1:
        return SequentialExecutor()
    raise UserError(f"executor {name} with {workers} workers {gpus_per_worker} is not available yet")
