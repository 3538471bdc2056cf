"""Decoding without launches: one step on tensors that stay where they are, captured once per shape and repeated.

A step reads the last token of every row, runs the model, chooses the likeliest next token and writes it where the next step
reads it. Nothing in it depends on numbers of Python that change from step to step, so that on a GPU it is recorded once per
(rows, columns) as a CUDA graph and repeated without Python: launching some 1,300 kernels one by one takes ten times as long as
they run. Elsewhere the same step runs as it is.

1. A batch is read by `prefill` into a cache that is allocated once.
2. The tokens of up to `BURST` steps reach the host together; what a row wrote after its end is ignored.
3. Rows that ended are dropped at a few fixed sizes (on a CPU at any size), attention looks at columns in multiples of `COLUMNS`.
4. Hooks read their directions from buffers (`held`), and weights are folded in place: on a GPU a model keeps its decoder from
   call to call, and what was recorded serves other prompts, directions and folds. Whatever else changes (hooks set by others,
   weights that moved) is noticed, and recorded anew.
5. `ways` proves once per model that the step writes what the plain loop writes; where it does not, that one serves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import proxy, ref

import torch
from torch import Tensor

from refusal_lens.model.answers import ASK_EVERY, KEEP, Job
from refusal_lens.model.batches import HOLDERS
from refusal_lens.model.cache import holding
from refusal_lens.model.fixed_cache import FixedLayer, fixed_cache, fixed_layers
from refusal_lens.model.held import HeldEdits, weights_and_hooks
from refusal_lens.model.lens import LensModel
from refusal_lens.model.prefill import WORTH, read_prompts

log = logging.getLogger(__name__)

BURST = {"cpu": 1}
"""Steps between two looks at the tokens: on an accelerator a look waits for the device."""
COLUMNS = {"cpu": 32}
MANY_COLUMNS = 128
STATES = 32
"""Sets of hooks and weights whose recorded steps are kept."""

Repeat: TypeAlias = Callable[[], Tensor]
"""Runs a step again and returns its logits."""
Record: TypeAlias = Callable[[Callable[[], Tensor]], Repeat]
"""Records a step that has run at least once on this device."""


class CudaGraphs:
    """Records steps as CUDA graphs that share their memory: one runs at a time, and its result is read before the next."""

    def __init__(self) -> None:
        """None recorded."""
        self._last: Callable[[], torch.cuda.CUDAGraph | None] = lambda: None

    def __call__(self, step: Callable[[], Tensor]) -> Repeat:
        """Record a step."""
        graph, last = torch.cuda.CUDAGraph(), self._last()
        with torch.cuda.graph(graph, pool=None if last is None else last.pool()):
            logits = step()
        self._last = ref(graph)

        def repeat() -> Tensor:
            graph.replay()
            return logits

        return repeat


@dataclass(eq=False)
class Decoder:
    """Tensors of the largest batch so far, and the steps recorded on them.

    Attributes:
        model: The model.
        share: Whether a batch's common beginning may be read once.
        record: Records a step; None runs every step as it is.
        least: Tokens that a common beginning must save.
    """

    model: LensModel
    share: bool
    record: Record | None
    least: int = WORTH
    _layers: list[FixedLayer] = field(init=False)
    _shape: tuple[int, int] = (0, 0)
    _recorded: dict[tuple[int, int, int], Repeat | None] = field(
        default_factory=dict[tuple[int, int, int], Repeat | None]
    )
    _states: dict[Hashable, int] = field(default_factory=dict[Hashable, int])
    _outside: Hashable = None
    _state: int = 0

    def __post_init__(self) -> None:
        """No storage yet."""
        self._device, self._config = self.model.device, self.model.hf.config
        self.forget()
        if self.record is not None:
            HOLDERS.add(self)

    def forget(self) -> bool:
        """Give all storage back; whether there was any. Asked of every decoder alive, also of one whose model is gone."""
        had = self._shape != (0, 0)
        self._column = torch.zeros(1, dtype=torch.long, device=self._device)
        layers = fixed_layers(self._config, self._column)
        assert layers is not None, "asked for models whose steps can be repeated"
        self._layers, self._cache = layers, fixed_cache(layers)
        self._held = HeldEdits(self._device)
        self._shape = (0, 0)
        self._drop_recorded()
        return had

    @property
    def recorded(self) -> int:
        """Steps that are kept to be repeated."""
        return sum(repeat is not None for repeat in self._recorded.values())

    def held_bytes(self) -> int:
        """Memory of the cache."""
        return sum(layer.held_bytes() for layer in self._layers)

    def begin(self, job: Job, rows: Sequence[int], steps: int) -> Tensor:
        """Read a batch, longest rows first, of which `steps` tokens at most will be written; logits [row, vocab] of the first."""
        lengths = [len(job.so_far(row)) for row in rows]
        device, width = self.model.device, lengths[0]
        self._bucket = COLUMNS.get(device.type, MANY_COLUMNS)
        on_demand = self.record is None
        columns = _up(width + (1 if on_demand else steps), self._bucket)
        if self.record is not None and (outside := weights_and_hooks(self.model.hf)) != self._outside:
            if torch.is_inference_mode_enabled() != self._column.is_inference():
                self.forget()  # tensors made in inference mode cannot be written outside it
            self._outside = outside
        if len(rows) > self._shape[0] or columns > self._shape[1] or on_demand:
            self.forget()
            self._shape = (len(rows), columns)
            self._mask = torch.ones(len(rows), width + steps + self._bucket, dtype=torch.long, device=device)
            self._ids = torch.zeros(len(rows), 1, dtype=torch.long, device=device)
            self._positions = torch.zeros(len(rows), 1, dtype=torch.long, device=device)
            self._written = torch.zeros(len(rows), ASK_EVERY, dtype=torch.long, device=device)
            self._place = torch.zeros(1, dtype=torch.long, device=device)
        else:
            for layer in self._layers:
                layer.clear()
        real = torch.tensor(lengths, device=device).unsqueeze(1)
        count, self._at = len(rows), width
        self._mask[:count] = torch.arange(self._mask.shape[1], device=device) >= width - real
        self._positions[:count] = real
        self._column.fill_(width)
        logits = read_prompts(job, rows, self._layers, shape=self._shape, share=self.share, least=self.least)
        self._ids[:count] = logits.argmax(-1, keepdim=True)
        self._view(count)
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows, in this order."""
        kept = torch.tensor(rows, device=self.model.device)
        for layer in self._layers:
            layer.keep(kept)
        for tensor in (self._mask, self._ids, self._positions):
            tensor[: len(rows)] = tensor[kept]
        self._view(len(rows))

    def hook(self, job: Job, rows: Sequence[int], hooks: ExitStack) -> None:
        """Set the job's hooks for these rows, on tensors that stay where steps are recorded."""
        if self.record is None:
            job.hook(rows, hooks)
            return
        self._held.begin()
        job.hook(rows, hooks, hold=self._held)
        state = (self._outside, self._held.state())
        if state not in self._states and len(self._states) >= STATES:
            self._drop_recorded()
        self._state = self._states.setdefault(state, len(self._states))

    def burst(self, steps: int) -> list[list[int]]:
        """Write `steps` more tokens, at most `ASK_EVERY`, and return them for every row."""
        self._place.zero_()
        for _ in range(steps):
            self.step()
        return self._written[: self._rows, :steps].tolist()

    def until_look(self, done: int, left: int) -> int:
        """Steps to the next look at the tokens, `done` being written of answers that began together."""
        most = BURST.get(self.model.device.type, ASK_EVERY)
        return min(left, most, ASK_EVERY - done % ASK_EVERY)

    def step(self) -> Tensor:
        """Write one more token; the logits [row, vocab] it was chosen from, valid until the next step."""
        if self._at >= self._columns:
            self._view(self._rows)
        self._at += 1
        key = (self._rows, self._columns, self._state)
        if self.record is None:
            return self._run()
        if key not in self._recorded:  # what is recorded has run before: libraries set up at a first run
            self._recorded[key] = None
            return self._run()
        try:
            repeat = self._recorded[key] = self._recorded[key] or self.record(self._run)
        except RuntimeError as error:
            log.info("%s: a step cannot be recorded (%s)", type(self.model.hf).__name__, str(error).split("\n")[0])
            self.record = None
            return self._run()
        return repeat()

    def _view(self, rows: int) -> None:
        self._rows, self._columns = rows, _up(self._at + 1, self._bucket)
        for layer in self._layers:
            layer.view(rows, self._columns)

    def _run(self) -> Tensor:
        """The step: nothing here but tensors that stay, and shapes."""
        rows = self._rows
        logits = self.model.hf(
            input_ids=self._ids[:rows],
            attention_mask=self._mask[:rows, : self._columns],
            position_ids=self._positions[:rows],
            use_cache=True,
            logits_to_keep=1,
            **holding(self.model.hf, self._cache),
        ).logits[:, -1]
        chosen = logits.argmax(-1, keepdim=True)
        self._written[:rows].index_copy_(1, self._place, chosen)
        self._ids[:rows].copy_(chosen)
        for counter in (self._positions, self._column, self._place):
            counter.add_(1)
        return logits

    def follow(self, tokens: Tensor) -> None:
        """Go on with other tokens [row] than the chosen ones."""
        self._ids[: self._rows] = tokens.unsqueeze(1)

    def _drop_recorded(self) -> None:
        self._recorded.clear()
        self._states.clear()


@torch.no_grad()
def write(job: Job, rows: Sequence[int], decoder: Decoder) -> None:
    """Write a batch until every row has ended, or it has no column left in the context."""
    live = sorted(rows, key=lambda row: (-len(job.so_far(row)), row))
    steps = job.steps(len(job.so_far(live[0])))
    together = len({len(job.written.get(row, ())) for row in live}) == 1
    done = len(job.written.get(live[0], ())) if together else 0
    logits = decoder.begin(job, live, steps)
    with ExitStack() as hooks:
        decoder.hook(job, live, hooks)
        tokens = logits.argmax(-1, keepdim=True).tolist()
        while True:
            for row, some in zip(live, tokens, strict=True):
                for token in some:
                    job.take(row, token)
            job.tell()
            done, steps = done + len(tokens[0]), steps - len(tokens[0])
            writing = [index for index, row in enumerate(live) if row not in job.answers]
            if not writing or steps < 1:
                return
            size = _size(len(writing), len(live), exact=decoder.record is None)
            if size < len(live):
                ended = [index for index, row in enumerate(live) if row in job.answers]
                kept = sorted([*writing, *ended[: size - len(writing)]])
                decoder.keep(kept)
                live = [live[index] for index in kept]
                if not all(item.rows(live) is item for item in job.hooked):
                    decoder.hook(job, live, hooks)
            tokens = decoder.burst(decoder.until_look(done, steps))


def _size(writing: int, rows: int, *, exact: bool) -> int:
    """Rows to go on with: 3/4, 1/2, 3/8, 1/4 .. of a power of two, or as many as write where no size is dearer."""
    if exact:
        return writing if writing < KEEP * rows else rows
    power = 1 << (writing - 1).bit_length()
    size = power * 3 // 4 if power >= 4 and writing <= power * 3 // 4 else power
    return min(size, rows)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def decoder_of(model: LensModel, *, share: bool) -> Decoder:
    """A decoder for a model: on a GPU the one that it keeps, with all that is recorded; elsewhere a new one."""
    record = recorder_for(model)
    if record is None:
        return Decoder(model, share, None)
    known = model.kept.get("decoder")
    if not isinstance(known, Decoder) or known.share != share or known.record is None:
        # Seen through a proxy, the model does not live on in what it keeps: deleted, it gives a GPU's memory back at once.
        known = model.kept["decoder"] = Decoder(proxy(model), share, record)
    return known


def recorder_for(model: LensModel) -> Record | None:
    """What records a model's steps: CUDA graphs on a GPU, nothing elsewhere."""
    return CudaGraphs() if model.device.type == "cuda" else None
