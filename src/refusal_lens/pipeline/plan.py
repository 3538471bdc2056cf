"""The plan of an audit: a fold over the steps, each naming its tasks from the configuration and the plan so far.

    prompts -> tokens -> filtering -> candidates -> scores -> selection -> direction -> completions -> verdicts -> tables

A pure function: the same tasks for the same inputs. A task's parameters hold exactly what its step will be given, so that
a changed setting makes only what depends on it stale.
"""

from __future__ import annotations

from collections.abc import Mapping

from refusal_lens.config import AuditConfig
from refusal_lens.pipeline.dataset import Dataset
from refusal_lens.pipeline.planning import Identity, Planning
from refusal_lens.pipeline.registry import STEPS
from refusal_lens.pipeline.step import Tool
from refusal_lens.types import JsonValue, Task

__all__ = ["Identity", "plan"]


def plan(config: AuditConfig, dataset: Dataset, identity: Identity) -> list[Task]:
    """All tasks of an audit, inputs before dependents.

    Args:
        config: The audit; its number format is resolved.
        dataset: Its prompts; only their digests and counts are read.
        identity: What identifies models and judge.

    Returns:
        Tasks in topological order.
    """
    identities: Mapping[Tool, Mapping[str, JsonValue]] = {
        "model": {"model": identity.model, "dtype": config.model.dtype},
        "base model": {"base": identity.base},
        "judge": {"judge": identity.judge},
        "prompts": {},  # the digest of a part is a parameter
    }
    state = Planning(config, dataset)
    for step in STEPS.values():
        state.planned.extend([step.task(asked, identities) for asked in step.plan(state)])
    return state.planned
