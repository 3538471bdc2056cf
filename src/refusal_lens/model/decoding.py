"""Decoding without launches: one step on tensors that stay where they are, captured once per shape and repeated.

A step reads the last token of every row, runs the model, chooses the likeliest next token and writes it where the next step
reads it. Nothing in it depends on numbers of Python that change from step to step, so that on a GPU it is recorded once per
(rows, columns) as a CUDA graph and repeated without Python: launching some 1,300 kernels one by one takes ten times as long as
they run. Elsewhere the same step runs as it is.

1. A batch is read by `prefill` into a cache that is allocated once.
2. The tokens of up to `BURST` steps reach the host together; what a row wrote after its end is ignored.
3. Rows that ended are dropped at a few fixed sizes (on a CPU at any size), attention looks at columns in multiples of `COLUMNS`.
4. Directions per row are tensors of the hooks: set anew for every size and batch, and what was recorded with others is dropped.
   Without such directions recordings serve every batch of a call, and weights that change in place.
5. `can_repeat` proves once per model that the step writes what the plain loop writes; where it does not, that one serves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from refusal_lens.model.answers import ASK_EVERY, KEEP, Job
from refusal_lens.model.cache import new_cache
from refusal_lens.model.fixed_cache import FixedLayer, fixed_cache, fixed_layers
from refusal_lens.model.lens import LensModel
from refusal_lens.model.prefill import WORTH, read_prompts
from refusal_lens.model.tokens import PROBES

log = logging.getLogger(__name__)

BURST = {"cpu": 1}
"""Steps between two looks at the tokens: on an accelerator a look waits for the device."""
COLUMNS = {"cpu": 32}
MANY_COLUMNS = 128
AGREEMENT = {torch.float32: 1e-4, torch.float64: 1e-9}
LOW_PRECISION_AGREEMENT = 0.1
"""Largest difference of logits from the plain loop's, as a share of the largest."""
PROVED = 4
"""Tokens of the proof: one read, one decoded as it is, two repeated."""

Repeat: TypeAlias = Callable[[], Tensor]
"""Runs a step again and returns its logits."""
Way: TypeAlias = Literal["shared", "apart", "plain"]
"""How a model's answers may be written: repeated with a common beginning read once, repeated, or by the plain loop."""


def record_step(step: Callable[[], Tensor]) -> Repeat:
    """Record a step as a CUDA graph; it has run at least once on this device."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = step()

    def repeat() -> Tensor:
        graph.replay()
        return logits

    return repeat


@dataclass(eq=False)
class Decoder:
    """Tensors of the largest batch of a call, and the steps recorded on them.

    Attributes:
        model: The model.
        share: Whether a batch's common beginning may be read once.
        record: Records a step; None runs every step as it is.
        least: Tokens that a common beginning must save.
    """

    model: LensModel
    share: bool
    record: Callable[[Callable[[], Tensor]], Repeat] | None
    least: int = WORTH
    _layers: list[FixedLayer] = field(init=False)
    _shape: tuple[int, int] = (0, 0)
    _seen: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    _recorded: dict[tuple[int, int], Repeat] = field(default_factory=dict[tuple[int, int], Repeat])

    def __post_init__(self) -> None:
        """No storage yet."""
        self._column = torch.zeros(1, dtype=torch.long, device=self.model.device)
        self.forget()

    def forget(self) -> None:
        """Give all storage back."""
        layers = fixed_layers(self.model.hf.config, self._column)
        assert layers is not None, "asked for models that can_repeat"
        self._layers, self._cache = layers, fixed_cache(layers)
        self._shape = (0, 0)
        self._drop_recorded()

    def begin(self, job: Job, rows: Sequence[int], steps: int) -> Tensor:
        """Read a batch.

        Args:
            job: The answers.
            rows: The batch, longest first.
            steps: Most tokens that will be written.

        Returns:
            Logits [row, vocab] of the first tokens.
        """
        lengths = [len(job.so_far(row)) for row in rows]
        device, width = self.model.device, lengths[0]
        self._bucket = COLUMNS.get(device.type, MANY_COLUMNS)
        on_demand = device.type == "cpu"
        columns = _up(width + (1 if on_demand else steps), self._bucket)
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
        if job.hooked and not all(item.rows(rows) is item for item in job.hooked):
            self._drop_recorded()
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
        key = (self._rows, self._columns)
        if self.record is None:
            return self._run()
        if key not in self._seen:  # what is recorded has run before: libraries set up at a first run
            self._seen.add(key)
            return self._run()
        if key not in self._recorded:
            try:
                self._recorded[key] = self.record(self._run)
            except RuntimeError as error:
                log.info("%s: a step cannot be recorded (%s)", type(self.model.hf).__name__, str(error).split("\n")[0])
                self.record = None
                return self._run()
        return self._recorded[key]()

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
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
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
        self._seen.clear()
        self._recorded.clear()


@torch.no_grad()
def write(job: Job, rows: Sequence[int], decoder: Decoder) -> None:
    """Write until every row has ended, or the batch has no column left in the context.

    Args:
        job: Takes the tokens.
        rows: One batch.
        decoder: Of the job's model.
    """
    live = sorted(rows, key=lambda row: (-len(job.so_far(row)), row))
    steps = job.steps(len(job.so_far(live[0])))
    together = len({len(job.written.get(row, ())) for row in live}) == 1
    done = len(job.written.get(live[0], ())) if together else 0
    logits = decoder.begin(job, live, steps)
    with ExitStack() as hooks:
        job.hook(live, hooks)
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
            size = _size(len(writing), len(live), exact=decoder.model.device.type == "cpu")
            if size < len(live):
                ended = [index for index, row in enumerate(live) if row in job.answers]
                kept = sorted([*writing, *ended[: size - len(writing)]])
                decoder.keep(kept)
                live = [live[index] for index in kept]
                if not all(item.rows(live) is item for item in job.hooked):
                    job.hook(live, hooks)
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


_WAYS: WeakKeyDictionary[LensModel, Way] = WeakKeyDictionary()


def way_of(model: LensModel) -> Way:
    """How a model's answers may be written, proved once per model against the plain loop.

    Args:
        model: The model, as it is: nothing of what is proved depends on its weights.

    Returns:
        The fastest way that writes the plain loop's tokens.
    """
    if model not in _WAYS:
        _WAYS[model] = _fastest(model)
    return _WAYS[model]


@contextmanager
def plainly(model: LensModel) -> Generator[None, None, None]:
    """Inside the context answers are written by the plain loop: for who counts passes by hooks of their own.

    The repeated step reads a common beginning in a pass of its own, is proved in further passes, and is recorded on a GPU.
    """
    known = _WAYS.get(model)
    _WAYS[model] = "plain"
    try:
        yield
    finally:
        del _WAYS[model]
        if known is not None:
            _WAYS[model] = known


def _fastest(model: LensModel) -> Way:
    column = torch.zeros(1, dtype=torch.long, device=model.device)
    devices = {parameter.device for parameter in model.hf.parameters()}
    if len(devices) > 1 or fixed_layers(model.hf.config, column) is None:
        return "plain"
    ids = model.token_ids(PROBES[:3])
    ids.sort(key=len, reverse=True)
    wanted = _plain_logits(model, ids)
    for way in ("shared", "apart"):
        try:
            if _agrees(model, ids, wanted, share=way == "shared"):
                return way
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, AssertionError) as error:
            log.info("%s: steps cannot be repeated (%s)", type(model.hf).__name__, str(error).split("\n")[0])
    return "plain"


@torch.no_grad()
def _plain_logits(model: LensModel, ids: Sequence[Sequence[int]]) -> list[Tensor]:
    batch, cache = model.batch(ids), new_cache(model.hf.config)
    found: list[Tensor] = []
    token, mask, positions = batch.input_ids, batch.attention_mask, batch.position_ids
    for _ in range(PROVED):
        found.append(
            model.hf(
                input_ids=token,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
        )
        token, positions = found[-1].argmax(-1, keepdim=True), positions[:, -1:] + 1
        mask = None if mask is None else torch.cat([mask, mask.new_ones(mask.shape[0], 1)], dim=1)
    return found


@torch.no_grad()
def _agrees(model: LensModel, ids: Sequence[Sequence[int]], wanted: Sequence[Tensor], *, share: bool) -> bool:
    decoder = decoder_of(model, share=share, least=1)
    allowed = AGREEMENT.get(model.dtype, LOW_PRECISION_AGREEMENT)
    job = Job(model, ids, PROVED)
    for number, plain in enumerate(wanted):
        ours = decoder.step() if number else decoder.begin(job, range(len(ids)), PROVED)
        if not float((ours.float() - plain.float()).abs().max()) <= allowed * float(plain.float().abs().max()):
            return False
        decoder.follow(plain.argmax(-1))
    return True


def decoder_of(model: LensModel, *, share: bool, least: int = WORTH) -> Decoder:
    """A decoder for a model; its steps are recorded where the model stands on a GPU."""
    return Decoder(model, share, record_step if model.device.type == "cuda" else None, least)
