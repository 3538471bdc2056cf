"""Score candidate directions on held-out prompts: exactly, exactly but only what the rule needs, or by a race.

- exact: every candidate on every prompt, all three scores.
- exact with `prune`: nothing is measured that the rule discards anyway: the last 20 % of layers are left out, KL is
  measured first and the other scores only for candidates within its limit, steering only where the rule reads it.
- race: see `race`; only the leaders are measured on every prompt.

Scores that were not measured in full are None and `skipped` says why. Zero vectors are not run: ablating or adding
nothing leaves the unchanged model's scores, which are known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from refusal_lens.core.progress import tell
from refusal_lens.directions.batched import BatchedPasses
from refusal_lens.directions.candidates import Candidates
from refusal_lens.directions.evaluation import Contenders, Evaluation
from refusal_lens.directions.extraction import texts
from refusal_lens.directions.formulas import Arithmetic, refusal_score
from refusal_lens.directions.passes import passes_for
from refusal_lens.directions.race import first_stage, race
from refusal_lens.directions.score_files import CandidateScore
from refusal_lens.directions.selection import KL_THRESHOLDS, ZERO_VECTOR, layer_limit
from refusal_lens.directions.sweep import Limits, everything, needed_only
from refusal_lens.errors import UserError
from refusal_lens.model import BatchSize, Intervention, LensModel, in_float64, next_token_logits
from refusal_lens.types import Prompt, Rule

log = logging.getLogger(__name__)

Mode: TypeAlias = Literal["exact", "race"]
CACHING = 8
"""Passes of a prompt that caching it costs, with the proof of the cache: 25 s against 0.2 s (0.5B, 16 prompts, two cores)."""
ZERO_SHARE = 1e-7
"""A candidate shorter than this share of the longest one is rounding noise around a zero vector."""


def refusal_scores(
    model: LensModel,
    prompts: Sequence[str | Prompt],
    token_ids: Sequence[int],
    *,
    interventions: Sequence[Intervention] = (),
    batch_size: BatchSize = "auto",
    arithmetic: Arithmetic = "published",
) -> npt.NDArray[np.float64]:
    """Refusal score of each prompt: log-odds of the refusal tokens as first answer token.

    Args:
        model: The model.
        prompts: Prompts of any class.
        token_ids: Refusal tokens.
        interventions: Active during the passes.
        batch_size: Prompts of one pass, or "auto".
        arithmetic: Published epsilons or none.

    Returns:
        float64 [prompt], nats, in input order.
    """
    _check_tokens(model, token_ids)
    logits = next_token_logits(model, texts(prompts), interventions=interventions, batch_size=batch_size)
    if len(prompts) == 0:
        return np.empty(0, dtype=np.float64)
    return refusal_score(logits, token_ids, arithmetic=arithmetic).numpy()


def score(
    model: LensModel,
    candidates: Candidates,
    harmful: Sequence[str | Prompt],
    harmless: Sequence[str | Prompt],
    *,
    refusal_tokens: Sequence[int],
    mode: Mode = "exact",
    prune: bool = False,
    rule: Rule = "paper",
    kl_threshold: float | None = None,
    layer_step: int = 1,
    batch_size: BatchSize = "auto",
    arithmetic: Arithmetic = "published",
    progress: Callable[[int, int], None] | None = None,
) -> list[CandidateScore]:
    """Score candidates on validation prompts; none is filtered out.

    Args:
        model: The model the candidates come from.
        candidates: What `extract` returned.
        harmful: Validation prompts of the one class.
        harmless: Validation prompts of the other.
        refusal_tokens: Ids whose total first-token probability is the refusal probability.
        mode: "exact" measures every candidate, "race" only the leaders.
        prune: In exact mode, leave out what the rule discards anyway.
        rule: The rule that will select; read by `prune` and by the race.
        kl_threshold: Its KL limit in nats, None for the rule's own.
        layer_step: Score every layer (1), every second (2) and so on; layer 0, the embedding, is the first left out.
        batch_size: Rows of one pass, or "auto".
        arithmetic: Published epsilons or none.
        progress: Told (done, total) passes of one prompt; the total is an upper bound when pruning, a guess when racing.

    Returns:
        One score per candidate in sweep order (position outer, layer inner), in every mode.

    Raises:
        UserError: Candidates and model do not fit, a class has no prompt, or a refusal token does not exist.
    """
    _check_fit(model, candidates)
    _check_tokens(model, refusal_tokens)
    if not harmful or not harmless:
        raise UserError("scoring needs at least one prompt of each class")
    limits = Limits(rule, KL_THRESHOLDS[rule] if kl_threshold is None else kl_threshold, layer_limit(model.n_layers))
    sites = candidates.sites()
    vectors = candidates.tensor.flatten(0, 1).float()
    if not torch.isfinite(vectors).all():
        raise UserError("some candidates are not finite numbers: extract them again with --dtype float32 or bfloat16")
    norms = in_float64(vectors).norm(dim=-1)
    whole = norms > ZERO_SHARE * norms.max()
    alive = [index for index, (_, layer) in enumerate(sites) if whole[index] and (layer + 1) % layer_step == 0]
    token_ids = model.render(texts([*harmful, *harmless]))
    pairs = len(alive) * (len(harmful) + 2 * len(harmless))
    if mode == "race":  # about as much again as the first stage: what follows is for few
        pairs = min(pairs, 2 * len(alive) * first_stage(len(harmful)))
    choose = BatchedPasses if mode == "race" and not _worth_caching(token_ids, pairs) else passes_for
    passes = choose(model, token_ids, batch_size=batch_size)
    evaluation = Evaluation(
        passes,
        Contenders(vectors[alive], tuple(sites[index][1] for index in alive)),
        plain=passes.plain(),
        n_harmful=len(harmful),
        token_ids=refusal_tokens,
        arithmetic=arithmetic,
        progress=_counter(progress, pairs),
    )
    notes: dict[int, str] = {}
    if mode == "race":
        notes = race(evaluation, limits, wide=model.device.type != "cpu")
    elif prune:
        notes = needed_only(evaluation, limits)
    else:
        everything(evaluation)
    log.info("scored %d candidates in %d passes of one prompt (%s)", len(alive), evaluation.pairs_run, mode)
    rows = {index: row for row, index in enumerate(alive)}
    left_out = f"not measured: only one layer in {layer_step} is"
    return [
        _score(evaluation, site, rows[index], notes)
        if index in rows
        else CandidateScore(*site, None, None, None, skipped=left_out)
        if whole[index]
        else _unchanged(evaluation, site)
        for index, site in enumerate(sites)
    ]


def _worth_caching(token_ids: Sequence[Sequence[int]], pairs: int) -> bool:
    """Whether a race runs enough pairs to earn back what caching its prompts costs: their common beginning is saved."""
    first, last = min(map(list, token_ids)), max(map(list, token_ids))  # what these two begin with, all between them do
    common = next((place for place, (one, two) in enumerate(zip(first, last, strict=False)) if one != two), len(first))
    return pairs * common >= CACHING * sum(map(len, token_ids))


def _score(evaluation: Evaluation, site: tuple[int, int], row: int, notes: Mapping[int, str]) -> CandidateScore:
    refusal, steering, divergence = evaluation.means(row)
    return CandidateScore(*site, refusal, steering, divergence, skipped=notes.get(row))


def _unchanged(evaluation: Evaluation, site: tuple[int, int]) -> CandidateScore:
    before = float(evaluation.before_harmful.mean()), float(evaluation.before_harmless.mean())
    return CandidateScore(*site, *before, 0.0, skipped=ZERO_VECTOR)


def _counter(progress: Callable[[int, int], None] | None, total: int) -> Callable[[int], None]:
    done = 0

    def count(pairs: int) -> None:
        nonlocal done
        done += pairs
        tell(done, max(done, total), "candidate passes")
        if progress is not None:
            progress(done, max(done, total))

    return count


def _check_fit(model: LensModel, candidates: Candidates) -> None:
    shape = (model.n_layers, model.d_model)
    if tuple(candidates.tensor.shape[1:]) != shape:
        raise UserError(
            f"the candidates have {candidates.tensor.shape[1]} layers of width {candidates.tensor.shape[2]}, "
            f"the model {shape[0]} of {shape[1]}: they were extracted from another model"
        )
    if candidates.model_digest not in {None, model.provenance.digest}:
        log.warning("the candidates were extracted from a model with other files (digest %s)", candidates.model_digest)


def _check_tokens(model: LensModel, token_ids: Sequence[int]) -> None:
    vocabulary = next(model.layout.embedding.parameters()).shape[0]
    wrong = [token for token in token_ids if not 0 <= token < vocabulary]
    if wrong or not token_ids:
        found = f"token ids {wrong} do not exist" if wrong else "no refusal token was given"
        raise UserError(f"{found}: the model's vocabulary has ids 0 to {vocabulary - 1}")
