"""Greedy answers to many prompts.

1. Prompts are sorted by length and run in large batches; results come back in input order.
2. A row ends at an end token, at the length limit, or when the caller says it is decided; once a fifth of a batch has
   ended, cache and batch shrink to the rows that still write.
3. A single ablation lives in the weights while answers are written, where that is exact; otherwise hooks carry it.
4. Interventions may give every prompt a direction of its own; they follow their rows through sorting and shrinking.
5. Every row has the room of its own prompt. Where a long prompt fills its batch up to the model's context, the shorter
   rows go on without it, in a batch with less padding.
6. Who wants to watch is shown what the readers of the residual stream read at the last prompt token of every row.
7. Where memory runs out the batch is halved; what is already written is kept.

Nothing is sampled: the same prompts give the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from refusal_lens.model.batches import BatchSize, chunks, is_out_of_memory, release_memory, run_shrinking
from refusal_lens.model.cache import keep_rows, new_cache
from refusal_lens.model.edit import Intervention
from refusal_lens.model.folding import fold_plan, folding
from refusal_lens.model.layout import hidden_input
from refusal_lens.model.lens import LensModel
from refusal_lens.model.thoughts import decode_answer, opens_thoughts

Fold: TypeAlias = Literal["auto", "never"]
Watch: TypeAlias = Callable[[Sequence[int], int, Tensor], None]
"""Told (rows, layer, activations [row, d_model]) of each reader of the residual stream; the final norm's layer is n_layers."""

KEEP = 0.8
"""A batch shrinks once fewer than this share of its rows still writes."""

ASK_EVERY = 16
"""Tokens between two questions to `stop_when`."""

CPU_ROWS, ACCELERATOR_ROWS = 256, 1024


@dataclass(frozen=True, slots=True)
class Generated:
    """An answer.

    Attributes:
        text: Decoded without special tokens, marks of thoughts kept. Untrusted.
        token_ids: Generated ids, the end token included.
        finished: False when cut at the token limit or by `stop_when`.
        opened: The prompt opened a block of thoughts, so the text begins with thoughts.
    """

    text: str
    token_ids: tuple[int, ...]
    finished: bool
    opened: bool = False


@dataclass
class _Job:
    """One call of generate: what is asked, and the answers so far."""

    model: LensModel
    token_ids: Sequence[Sequence[int]]
    limit: int
    stop_when: Callable[[int, str], bool] | None
    progress: Callable[[int, int], None] | None
    watch: Watch | None
    hooked: Sequence[Intervention] = ()
    answers: dict[int, Generated] = field(default_factory=dict[int, Generated])
    written: dict[int, list[int]] = field(default_factory=dict[int, list[int]])

    def room(self, row: int) -> int:
        """Most tokens of a row's answer: the limit, or what its own prompt leaves of the context."""
        context = self.model.context
        return self.limit if context is None else min(self.limit, context - len(self.token_ids[row]))

    def take(self, row: int, token: int, *, end: bool) -> None:
        """Append a token to a row's answer, and finish the answer where it ends."""
        written = self.written.setdefault(row, [])
        written.append(token)
        if end or len(written) >= self.room(row) or self._decided(row, written):
            opened = opens_thoughts(self.model.tokenizer, self.token_ids[row])
            self.answers[row] = Generated(self._text(written), tuple(written), finished=end, opened=opened)
            if self.progress is not None:
                self.progress(len(self.answers), len(self.token_ids))

    def hook(self, rows: Sequence[int], hooks: ExitStack) -> None:
        """Set the hooks for a batch of these rows, in place of earlier ones."""
        hooks.close()
        hooks.enter_context(self.model.edited([item.rows(rows) for item in self.hooked]))

    def _decided(self, row: int, written: Sequence[int]) -> bool:
        asked = self.stop_when is not None and len(written) % ASK_EVERY == 0
        return asked and self.stop_when is not None and self.stop_when(row, self._text(written))

    def _text(self, ids: Sequence[int]) -> str:
        return decode_answer(self.model.tokenizer, ids)


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
        stop_when: Asked every `ASK_EVERY` tokens with (row, text so far); True ends that row's answer.
        progress: Told (answers done, answers in all) whenever an answer is done.
        watch: Told what is read of the residual stream before the first answer token, see `Watch`.

    Returns:
        Answers in input order.

    Raises:
        ValueError: The limit is not positive.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be positive, not {max_new_tokens}")
    job = _Job(model, model.token_ids(instructions), max_new_tokens, stop_when, progress, watch)
    lengths = [len(ids) + max_new_tokens for ids in job.token_ids]
    groups = chunks(
        lengths,
        batch_size,
        tokens=_token_budget(model),
        most=CPU_ROWS if model.device.type == "cpu" else ACCELERATOR_ROWS,
    )
    with _folded(model, interventions, fold) as folded:
        job.hooked = () if folded else interventions
        for _ in run_shrinking(groups, lambda rows: _answer(job, [row for row in rows if row not in job.answers])):
            pass
    return [job.answers[row] for row in range(len(job.token_ids))]


@contextmanager
def _folded(model: LensModel, interventions: Sequence[Intervention], fold: Fold) -> Generator[bool, None, None]:
    """Yields whether the weights carry the interventions: one ablation is all there is, and that is exact."""
    direction = interventions[0].fold_direction() if len(interventions) == 1 and fold == "auto" else None
    with ExitStack() as stack:
        if direction is None or not fold_plan(model).exact:
            yield False
            return
        try:
            stack.enter_context(folding(fold_plan(model), direction))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            release_memory()  # no room for a second copy of the output matrices
            yield False
            return
        yield True


def _token_budget(model: LensModel) -> int:
    """Tokens (prompt and answer) whose keys and values fill half of the free memory of an accelerator."""
    if model.device.type != "cuda":
        return 65536
    config = model.hf.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or model.d_model // config.num_attention_heads
    per_token = 2 * model.n_layers * heads * width * model.dtype.itemsize
    free = torch.cuda.mem_get_info(model.device)[0]
    return max(1024, int(free / 2 / per_token))


@torch.no_grad()
def _answer(job: _Job, rows: Sequence[int]) -> None:
    """Write the answers of one batch into the job."""
    with ExitStack() as hooks:
        while rows:
            _write(job, rows, hooks)
            rows = [row for row in rows if row not in job.answers]


def _write(job: _Job, rows: Sequence[int], hooks: ExitStack) -> None:
    """Write until every row has ended, or the batch has no column left in the context."""
    model = job.model
    so_far = {row: [*job.token_ids[row], *job.written.get(row, ())] for row in rows}
    batch = model.batch(list(so_far.values()))
    cache = new_cache(model.hf.config)
    ends = torch.tensor(model.end_ids, device=model.device)
    live = list(rows)
    ids, mask, positions = batch.input_ids, batch.attention_mask, batch.position_ids
    job.hook(live, hooks)
    width = batch.input_ids.shape[1]
    for step in range(job.limit if model.context is None else min(job.limit, model.context - width)):
        with _shown(job, live) if step == 0 and job.watch is not None else nullcontext():
            logits = model.hf(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
        chosen = logits.argmax(-1)
        ended = torch.isin(chosen, ends).tolist()
        for row, token, end in zip(live, chosen.tolist(), ended, strict=True):
            if row not in job.answers:
                job.take(row, token, end=end)
        writing = [index for index, row in enumerate(live) if row not in job.answers]
        if not writing:
            return
        ids, positions = chosen.unsqueeze(1), positions[:, -1:] + 1
        mask = None if mask is None else torch.cat([mask, mask.new_ones(mask.shape[0], 1)], dim=1)
        if len(writing) < KEEP * len(live):
            kept = torch.tensor(writing, device=model.device)
            keep_rows(cache, kept)
            ids, positions, mask = ids[kept], positions[kept], _kept(mask, kept)
            live = [live[index] for index in writing]
            job.hook(live, hooks)


@contextmanager
def _shown(job: _Job, rows: Sequence[int]) -> Generator[None, None, None]:
    """Show what every reader reads at the last token of these rows to who watches."""
    watch, d_model = job.watch, job.model.d_model
    assert watch is not None

    def note(layer: int, arguments: tuple[object, ...], keywords: dict[str, object]) -> None:
        hidden = hidden_input(arguments, keywords)
        assert hidden is not None, "readers are called with activations"
        watch(rows, layer, hidden.reshape(len(rows), -1, d_model)[:, -1])

    with ExitStack() as stack:
        for layer, reader in job.model.layout.readers:
            hook = partial(_forward_to, note, layer)
            stack.callback(reader.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


def _forward_to(
    note: Callable[[int, tuple[object, ...], dict[str, object]], None],
    layer: int,
    _module: nn.Module,
    arguments: tuple[object, ...],
    keywords: dict[str, object],
) -> None:
    note(layer, arguments, keywords)


def _kept(mask: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if mask is None else mask[rows]
