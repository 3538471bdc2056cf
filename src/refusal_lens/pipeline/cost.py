"""What an audit would cost, before it starts."""

from __future__ import annotations

from refusal_lens.pipeline.audit import Prepared


def cost_of(prepared: Prepared) -> list[str]:
    """Lines that say what the audit would cost."""
    return [f"{len(prepared.tasks)} tasks"]
