"""What each task of a plan weighs: the tokens it reads and writes at most, a written one counted as `WRITTEN` read ones.

Told from the plan and the prompts alone; nothing of the model is opened for it, so that a forecast costs nothing. Tasks without
model or judge weigh nothing, and a native judge's answer as much as a token: a judge that takes longer shows in its pace.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

from refusal_lens.directions.estimate import SHARE_OF_SWEEP
from refusal_lens.pipeline.audit import Prepared
from refusal_lens.pipeline.cost import sweep_of
from refusal_lens.pipeline.sharing import answers_of
from refusal_lens.types import Prompt

WRITTEN = 4.0
"""Read tokens in the time of a written one: 2 to 6 with 10 to 60 answers side by side. Only steps not begun depend on it."""
CANDIDATES = 150
"""Of a sweep: five positions in thirty layers."""
BYTES_OF_TOKEN, TEMPLATE_TOKENS = 4.0, 20.0


def weights(prepared: Prepared) -> dict[str, float]:
    """Weight of each task, by task id; nothing of the model is opened for it."""
    lengths = {name: _tokens(part) for name, part in prepared.dataset.parts.items()}
    completions: dict[str, int] = {}
    choice, limit = prepared.config.directions, prepared.config.generation.max_new_tokens
    candidates = CANDIDATES / choice.layer_step
    found: dict[str, float] = {}
    for task in prepared.tasks:
        if task.step == "completions":
            part = task.inputs[0].removeprefix("prompts/")
            answers = answers_of(task, prepared.dataset)
            completions[task.name] = answers
            found[task.task_id] = answers * (lengths[part] + WRITTEN * limit)
            continue
        read = lengths.get(f"{task.name}.select", fmean(lengths.values()) if lengths else TEMPLATE_TOKENS)
        found[task.task_id] = {
            "tokens": 2 * min(choice.discovery, choice.n_train) * (read + WRITTEN * choice.discovery_tokens),
            "filtering": 2 * (choice.n_train + choice.n_val) * read,
            "candidates": 2 * choice.n_train * read,
            "scores": 2.5 * choice.n_val * candidates * SHARE_OF_SWEEP[sweep_of(prepared.config)] * read,
            "verdicts": float(completions.get(task.name, 0)),
        }.get(task.step, choice.n_val * read if task.needs_model else 0.0)
    return found


def _tokens(prompts: Iterable[Prompt]) -> float:
    """Mean length of rendered prompts, told from their bytes: every script costs about a token for four of them."""
    sizes = [len(prompt.text.encode()) for prompt in prompts]
    return TEMPLATE_TOKENS + (fmean(sizes) / BYTES_OF_TOKEN if sizes else 0.0)
