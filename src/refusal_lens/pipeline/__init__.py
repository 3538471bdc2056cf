"""The audit as steps: a pure plan, step functions, a driver that computes only what is not valid yet."""

from refusal_lens.pipeline.audit import AuditResult, Prepared, prepare, resume_config, run_audit
from refusal_lens.pipeline.cost import cost_of, missing_lines
from refusal_lens.pipeline.provenance import check_takeover, earlier_header
from refusal_lens.pipeline.results import Run, open_run
from refusal_lens.pipeline.weights import weights

__all__ = [
    "AuditResult",
    "Prepared",
    "Run",
    "check_takeover",
    "cost_of",
    "earlier_header",
    "missing_lines",
    "open_run",
    "prepare",
    "resume_config",
    "run_audit",
    "weights",
]
