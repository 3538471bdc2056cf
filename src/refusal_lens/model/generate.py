"""Greedy answers to many prompts.

1. Prompts are sorted by length and run in large batches of like size; results come back in input order.
2. A row ends at an end token, at the length limit, or when the caller says it is decided; once many rows of a batch have
   ended, cache and batch shrink.
3. A single ablation lives in the weights while answers are written, where that is exact; otherwise hooks carry it.
4. Interventions may give every prompt a direction of its own; they follow their rows through sorting and shrinking.
5. Every row has the room of its own prompt. Where a long prompt fills its batch up to the model's context, the shorter
   rows go on without it, in a batch with less padding.
6. Who wants to watch is shown what the readers of the residual stream read at the last prompt token of every row.
7. Where memory runs out the batch is halved; what is already written is kept.
8. An `Engine` says which loop writes: `decoding` repeats one step wherever that is proved equal to `plain_loop`.

Nothing is sampled: the same prompts give the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal, TypeAlias

import torch

from refusal_lens.model import decoding, plain_loop, ways
from refusal_lens.model.answers import Generated, Job, Watch
from refusal_lens.model.batches import BatchSize, chunks, free_memory, is_out_of_memory, release_memory, run_shrinking
from refusal_lens.model.edit import Intervention
from refusal_lens.model.engine import ENGINE, Engine
from refusal_lens.model.folding import Rounded, fold_plan, folding
from refusal_lens.model.lens import LensModel

Fold: TypeAlias = Literal["auto", "never"]

CPU_ROWS, ACCELERATOR_ROWS = 256, 1024


def generate(
    model: LensModel,
    instructions: Sequence[str],
    *,
    max_new_tokens: int = 512,
    batch_size: BatchSize = "auto",
    interventions: Sequence[Intervention] = (),
    fold: Fold = "auto",
    stop_when: Callable[[int, str], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
    watch: Watch | None = None,
    engine: Engine = ENGINE,
) -> list[Generated]:
    """Answer every instruction greedily.

    Args:
        model: The model.
        instructions: User messages.
        max_new_tokens: Length limit of an answer, in tokens.
        batch_size: Prompts of one batch, or "auto".
        interventions: Active from the first prompt token to the last answer token. One with a direction per row takes
            the rows for the instructions, in input order.
        fold: "auto" holds a single ablation in the weights where that is exact; "never" always uses hooks.
        stop_when: Asked every 16 tokens with (row, text so far); True ends that row's answer.
        progress: Told (answers done, answers in all) whenever an answer is done.
        watch: Told what is read of the residual stream before the first answer token, see `Watch`.
        engine: Which loop writes.

    Returns:
        Answers in input order.

    Raises:
        ValueError: The limit is not positive.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be positive, not {max_new_tokens}")
    job = Job(model, model.token_ids(instructions), max_new_tokens, stop_when, progress, watch)
    write = _writer(model, engine)
    groups = batches_of(model, [len(ids) + max_new_tokens for ids in job.token_ids], batch_size)

    def answer(rows: list[int]) -> None:
        while left := [row for row in rows if row not in job.answers]:
            write(job, left)

    with _folded(model, interventions, fold) as left:
        job.hooked = left
        for _ in run_shrinking(_evened(groups) if batch_size == "auto" else iter(groups), answer):
            pass
    return [job.answers[row] for row in range(len(job.token_ids))]


def batches_of(model: LensModel, lengths: Sequence[int], batch_size: BatchSize = "auto") -> list[list[int]]:
    """The batches that `generate` takes to begin with.

    Args:
        model: The model.
        lengths: Tokens of each prompt and the most of its answer.
        batch_size: Prompts of one batch, or "auto" for what the device's free memory holds.

    Returns:
        Row indices of each batch, longest rows first.
    """
    most = CPU_ROWS if model.device.type == "cpu" else ACCELERATOR_ROWS
    return list(chunks(lengths, batch_size, tokens=_token_budget(model), most=most))


def _writer(model: LensModel, engine: Engine) -> Callable[[Job, Sequence[int]], None]:
    """What writes the answers of one batch: the one place where engines and loops are chosen."""
    rounded = torch.is_autocast_enabled(model.device.type)  # keys in another format than the model's, which storage has
    way = "plain" if engine.plain or rounded else ways.way_of(model)
    if way == "plain":
        return plain_loop.write
    decoder = decoding.decoder_of(model, share=way == "shared")

    def write(job: Job, rows: Sequence[int]) -> None:
        try:
            decoding.write(job, rows, decoder)
        except BaseException:
            decoder.forget()
            raise

    return write


def _evened(groups: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """The same rows in as many batches of one size: a last batch of a few rows takes nearly as long as a full one."""
    rows = [row for group in groups for row in group]
    size = -(-len(rows) // max(1, len(groups)))
    yield from (rows[start : start + size] for start in range(0, len(rows), max(1, size)))


@contextmanager
def _folded(
    model: LensModel, interventions: Sequence[Intervention], fold: Fold
) -> Generator[Sequence[Intervention], None, None]:
    """Yields what hooks must do: everything, unless one ablation is all there is and the weights can carry it exactly."""
    direction = interventions[0].fold_direction() if len(interventions) == 1 and fold == "auto" else None
    with ExitStack() as stack:
        if direction is None or not fold_plan(model).exact:
            yield interventions
            return
        try:
            stack.enter_context(folding(fold_plan(model).weights_alone(), direction))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            release_memory()  # no room for a second copy of the output matrices
            yield interventions
            return
        yield [Rounded(direction)] if fold_plan(model).rounded else []


def _token_budget(model: LensModel) -> int:
    """Tokens (prompt and answer) whose keys and values fill half of the free memory of an accelerator."""
    if model.device.type != "cuda":
        return 65536
    config = model.hf.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or model.d_model // config.num_attention_heads
    per_token = 2 * model.n_layers * heads * width * model.dtype.itemsize
    return max(1024, int(free_memory(model.device) / 2 / per_token))
