"""Find a judge by its name."""

from __future__ import annotations

from refusal_lens.errors import UserError
from refusal_lens.judging.answer import Judge
from refusal_lens.judging.native import NativeJudge

JUDGES = ("native", "wildguard", "polyguard", "endpoint")


def get_judge(name: str) -> Judge:
    """Build a judge by name.

    Args:
        name: "native".

    Returns:
        The judge.

    Raises:
        UserError: No such judge.
    """
    if name == "native":
        return NativeJudge()
    raise UserError(f"unknown judge {name!r}; known: {', '.join(JUDGES)}")
