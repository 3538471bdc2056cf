"""Answers of one or several shards in one call of `generate`: each row with the direction, stopping rule and proof of its shard.

Shards of one intervention share, whatever their languages, classes and prompt sets. Where all rows have one direction, an
ablation is folded into the weights; else each row carries its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from refusal_lens.core.digests import digest_bytes
from refusal_lens.core.progress import tell
from refusal_lens.directions import Direction
from refusal_lens.engines import VllmEngine, serving
from refusal_lens.interventions import FiredProof, make
from refusal_lens.judging import Answer, Judge
from refusal_lens.model import BatchSize, Engine, Generated, Intervention, LensModel, generate
from refusal_lens.model.generate import batches_of
from refusal_lens.types import JsonValue, Prompt

FULL_SHARE = 0.05
"""Prompts whose answers are written to their end although a rule may stop answers: what shows whether it may."""
MEASURED = 2
"""Prompts of a shard on which it is proved that the intervention acted."""


@dataclass(frozen=True)
class Shard:
    """What one task asks.

    Attributes:
        language: Of its prompts.
        prompts: Asked under each direction.
        directions: By source; None stands for no direction, under the baseline.
    """

    language: str
    prompts: Sequence[Prompt]
    directions: Mapping[str, Direction | None]

    @property
    def asked(self) -> list[tuple[str, Prompt]]:
        """The rows: source and prompt."""
        return [(source, prompt) for source in self.directions for prompt in self.prompts]

    @property
    def texts(self) -> list[str]:
        """What the model is asked, row by row."""
        return [prompt.text for _, prompt in self.asked]

    def stopping(self, judge: Judge, model: LensModel) -> Stopping:
        """The rule that ends its answers."""
        full = {row for row, (source, prompt) in enumerate(self.asked) if in_sample(source, prompt.prompt_id)}
        asking = [prompt for _, prompt in self.asked]
        return Stopping(judge, self.language, asking, model.opens_thoughts(self.texts), full)


@dataclass(frozen=True)
class Asked:
    """What is alike in shards that share: the intervention with its options, and the length limit of an answer."""

    intervention: str
    options: Mapping[str, JsonValue]
    limit: int


def in_one_batch(
    model: LensModel, shards: Sequence[Shard], limit: int, engine: Engine, batch_size: BatchSize
) -> Sequence[Shard]:
    """The first shards, at least one, whose answers are one batch of `generate`; an engine that schedules rows takes all."""
    if len(shards) == 1 or serving(model, engine) is not None:
        return shards
    lengths: list[int] = []
    for count, shard in enumerate(shards):
        lengths += [len(ids) + limit for ids in model.token_ids(shard.texts)]
        if count and len(batches_of(model, lengths, batch_size)) > 1:
            return shards[:count]
    return shards


def answer(
    model: LensModel,
    shards: Sequence[Shard],
    asked: Asked,
    *,
    stops: Sequence[Stopping],
    batch_size: BatchSize,
    engine: Engine,
) -> tuple[list[Generated], FiredProof]:
    """Write the answers of some shards.

    Args:
        model: The model.
        shards: What is asked, with at least one row in all.
        asked: What is done to the model meanwhile.
        stops: Each shard's stopping rule; empty where answers are written to their end.
        batch_size: Rows of a batch.
        engine: What writes.

    Returns:
        The answers, shard after shard, and the proof that the interventions acted, which counts rows alike.
    """
    texts = [text for shard in shards for text in shard.texts]
    blocks: dict[str, list[int]] = {}
    for row, source in enumerate(source for shard in shards for source, _ in shard.asked):
        blocks.setdefault(source, []).append(row)
    found = {source: direction for shard in shards for source, direction in shard.directions.items()}
    applied = {source: direction for source in blocks if (direction := found[source]) is not None}
    one_each = {row: applied[source] for source in applied for row in blocks[source]}
    directions = list(applied.values()) if len(applied) == 1 else [one_each[row] for row in sorted(one_each)]
    interventions = make(asked.intervention, asked.options, directions) if applied else []
    proof = FiredProof(interventions, _measured(shards))
    rules = [(stop, row) for stop, shard in zip(stops, shards, strict=False) for row in range(len(shard.asked))]

    def rule(row: int, text: str) -> bool:
        stop, place = rules[row]
        return stop(place, text)

    alone = {
        source: make(asked.intervention, asked.options, [applied[source]]) if source in applied else []
        for source in blocks
    }
    server = serving(model, engine)
    if server is not None and all(server.takes(changes) for changes in alone.values()):
        parts = [(rows, alone[source]) for source, rows in blocks.items()]
        return _by_engine(server, asked.limit, texts, parts, proof, rule if stops else None), proof
    generated = generate(
        model,
        texts,
        max_new_tokens=asked.limit,
        batch_size=batch_size,
        engine=engine,
        interventions=interventions,
        watch=proof.watch if interventions else None,
        stop_when=rule if stops else None,
    )
    if interventions:
        proof.measure_before(model, texts)
    return generated, proof


def _measured(shards: Sequence[Shard]) -> list[int]:
    """Rows of the first prompts under each direction of each shard."""
    places = [row % len(shard.prompts) for shard in shards for row in range(len(shard.asked))]
    return [row for row, place in enumerate(places) if place < MEASURED]


def _by_engine(
    server: VllmEngine,
    limit: int,
    texts: Sequence[str],
    parts: Sequence[tuple[Sequence[int], Sequence[Intervention]]],
    proof: FiredProof,
    stop: Callable[[int, str], bool] | None,
) -> list[Generated]:
    """Answers by an engine that holds one direction at a time: the rows of one after those of another, each with its proof."""
    generated: dict[int, Generated] = {}
    measured = frozenset(proof.rows)
    for rows, changes in parts:
        found = server.generate(
            [texts[row] for row in rows],
            max_new_tokens=limit,
            interventions=changes,
            stop_when=None if stop is None else _of_rows(stop, rows),
            progress=lambda done, total: tell(done, total, "answers"),
        )
        generated.update(zip(rows, found, strict=True))
        shown = [row for row in rows if changes and row in measured]

        def note(places: Sequence[int], layer: int, read: Tensor, shown: Sequence[int] = shown) -> None:
            proof.watch([shown[place] for place in places], layer, read)

        server.show([texts[row] for row in shown], changes, note)
    if any(changes for _, changes in parts):
        server.show([texts[row] for row in proof.rows], [], proof.watch_before)
    return [generated[row] for row in range(len(texts))]


def _of_rows(stop: Callable[[int, str], bool], rows: Sequence[int]) -> Callable[[int, str], bool]:
    """The rule for some of the rows, counted anew."""
    return lambda place, text: stop(rows[place], text)


def in_sample(source: str, prompt_id: str) -> bool:
    """Whether an answer is written in full whatever the stopping rule says: one in twenty, the same in every run."""
    return int(digest_bytes(f"{source}\0{prompt_id}".encode())[:8], 16) < FULL_SHARE * 2**32


class Stopping:
    """A stopping rule for generate: the judge is certain that what is written so far refuses.

    Inside thoughts there is no answer yet, and nothing is decided.
    """

    def __init__(
        self, judge: Judge, language: str, prompts: Sequence[Prompt], opened: Sequence[bool], full: Collection[int]
    ) -> None:
        """Rule for some rows, of which those in `full` are never stopped; `early` gathers those it would have."""
        self._judge, self._language, self._prompts, self._opened, self._full = judge, language, prompts, opened, full
        self.early: set[int] = set()

    def __call__(self, row: int, text: str) -> bool:
        """Whether a row's answer may end here."""
        if row in self.early:
            return False
        answer = Answer(
            text=text,
            language=self._language,
            prompt=self._prompts[row].for_judge,  # as in the step `verdicts`: one judge, one question
            finished=False,
            opened=self._opened[row],
        )
        verdict = self._judge.judge([answer])[0]
        decided = verdict.label == "refused" and not verdict.uncertain
        if decided and row in self._full:
            self.early.add(row)
            return False
        return decided
