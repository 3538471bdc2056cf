"""Drawing prompts so that every language draws the same instructions.

    rank(prompt) = sha256(seed : prompt_id), the n lowest ranks are drawn, in rank order

The draw depends on the ids alone, not on file order, language or the other prompts: a smaller draw with the same seed
is the beginning of a larger one, and a row that one language lacks does not change the others' draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from refusal_lens.errors import DataError
from refusal_lens.types import Prompt


def sample(prompts: Sequence[Prompt], *, n: int, seed: int) -> list[Prompt]:
    """Draw prompts by id.

    Args:
        prompts: Prompts with unique ids, usually one cell.
        n: How many to draw.
        seed: Any integer; the same seed draws the same ids in every language.

    Returns:
        `n` prompts in rank order.

    Raises:
        DataError: When there are fewer than `n`, `n` is negative, or an id occurs twice.
    """
    if n < 0:
        raise DataError(f"cannot draw {n} prompts; ask for 0 or more")
    if n > len(prompts):
        first = f" ({prompts[0].language} {prompts[0].harm} {prompts[0].split})" if prompts else ""
        raise DataError(f"{n} prompts asked, {len(prompts)} there{first}; ask for at most {len(prompts)}")
    ranked = {prompt.prompt_id: prompt for prompt in prompts}
    if len(ranked) != len(prompts):
        raise DataError(
            f"{len(prompts) - len(ranked)} of {len(prompts)} prompts repeat an id; ids must be unique to draw by them"
        )
    order = sorted(ranked, key=lambda prompt_id: hashlib.sha256(f"{seed}:{prompt_id}".encode()).digest())
    return [ranked[prompt_id] for prompt_id in order[:n]]
