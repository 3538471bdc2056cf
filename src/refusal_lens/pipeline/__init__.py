"""The audit as steps: a pure plan, step functions, a driver that computes only what is not valid yet."""

from refusal_lens.pipeline.audit import (
    AuditResult,
    Prepared,
    check_same_model,
    earlier_header,
    prepare,
    resume_config,
    run_audit,
)
from refusal_lens.pipeline.cost import cost_of
from refusal_lens.pipeline.results import Run, open_run

__all__ = [
    "AuditResult",
    "Prepared",
    "Run",
    "check_same_model",
    "cost_of",
    "earlier_header",
    "open_run",
    "prepare",
    "resume_config",
    "run_audit",
]
