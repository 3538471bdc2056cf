"""Seals: what was planned before a run (`plan`), and whose run it is (`signing`). Reads run directories, never a model."""

from refusal_lens.seals.plan import Claim, Finding, check_plan, lock_plan, read_lock
from refusal_lens.seals.signing import SIGNATURE, check_signature, new_key, sign

__all__ = [
    "SIGNATURE",
    "Claim",
    "Finding",
    "check_plan",
    "check_signature",
    "lock_plan",
    "new_key",
    "read_lock",
    "sign",
]
