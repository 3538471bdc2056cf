"""Lines about extraction and the scoring sweep: ours and the published procedure on the same model, prompts and candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bench import published
from bench.measure import Cost, Line, interleaved, scaled, timed
from bench.models import Material
from refusal_lens.directions import Candidates, CandidateScore, extract, score, select
from refusal_lens.directions.evaluation import Contenders, Evaluation
from refusal_lens.directions.passes import passes_for
from refusal_lens.directions.scoring import Mode
from refusal_lens.directions.sweep import everything
from refusal_lens.model import LensModel

Published = tuple[float, float, float]


def refusal_tokens(model: LensModel, material: Material) -> list[int]:
    """Two tokens that stand in for refusal: the likeliest first tokens of harmful prompts."""
    from refusal_lens.model import next_token_logits

    mean = next_token_logits(model, material.harmful_train[:32]).softmax(dim=-1).mean(dim=0)
    return mean.topk(2).indices.tolist()


def extraction_line(name: str, model: LensModel, material: Material, repeats: int) -> tuple[Line, Candidates]:
    """Candidates of 128 + 128 prompts."""
    found: list[Candidates] = []
    theirs: list[Tensor] = []

    def ours() -> None:
        found.append(extract(model, material.harmful_train, material.harmless_train))

    def baseline() -> None:
        means = [
            published.mean_activations(model.hf, model.tokenizer, prompts, model.positions)
            for prompts in (material.harmful_train, material.harmless_train)
        ]
        theirs.append(means[0] - means[1])

    ours_cost, baseline_cost = interleaved(ours, baseline, repeats)
    difference = float((found[0].tensor.double() - theirs[0]).abs().max())
    return Line(f"extraction {name}", ours_cost, baseline_cost, difference, f"median of {repeats}"), found[0]


def _baseline(
    model: LensModel,
    candidates: Candidates,
    sites: Sequence[tuple[int, int]],
    material: Material,
    tokens: Sequence[int],
) -> tuple[Cost, dict[tuple[int, int], Published]]:
    """Three sweeps over some candidates; the cost is for all candidates, as each costs the same."""
    before = published.last_logits(model.hf, model.tokenizer, material.harmless_val)
    scores: dict[tuple[int, int], Published] = {}

    def work() -> None:
        for position, layer in sites:
            vector = candidates.vector(position, layer)
            scores[position, layer] = published.candidate_scores(
                model.hf, model.tokenizer, vector, layer, material.harmful_val, material.harmless_val, tokens, before
            )

    cost = timed(work)
    return scaled(cost, len(candidates.sites()) / len(sites)), scores


def sweep_lines(
    name: str, model: LensModel, candidates: Candidates, material: Material, tokens: Sequence[int], *, whole: bool
) -> Iterator[Line]:
    """The exact sweep, the exact sweep without what the rule discards, and the race."""
    layers = [model.n_layers // 8, model.n_layers * 3 // 8 - 1, model.n_layers * 5 // 8, model.n_layers * 7 // 8]
    sample = [(model.positions[-1], layer) for layer in layers]
    half = len(sample) // 2
    first, scores = _baseline(model, candidates, sample[:half], material, tokens)
    if whole:
        results: list[list[CandidateScore]] = []
        ours = timed(lambda: results.append(_score(model, candidates, material, tokens)))
        exact = results[0]
        note = f"ours all {len(exact)} candidates, baseline {len(sample)} of them, scaled"
    else:
        ours, exact = _stripe(model, candidates, layers, material, tokens)
        note = f"ours {len(exact)} candidates, baseline {len(sample)}, both scaled to {len(candidates.sites())}"
    second, more = _baseline(model, candidates, sample[half:], material, tokens)
    scores |= more
    baseline = Cost((first.cpu + second.cpu) / 2, (first.wall + second.wall) / 2)
    yield Line(f"sweep exact {name}", ours, baseline, _difference(exact, scores), note)
    if whole:
        pruned: list[list[CandidateScore]] = []
        ours = timed(lambda: pruned.append(_score(model, candidates, material, tokens, prune=True)))
        yield Line(f"sweep exact, pruned {name}", ours, baseline, None, _agreement(model, exact, pruned[0]))
    raced: list[list[CandidateScore]] = []
    ours = timed(lambda: raced.append(_score(model, candidates, material, tokens, mode="race")))
    note = _agreement(model, exact, raced[0]) if whole else "choice not compared: no whole exact sweep in this run"
    yield Line(f"sweep race {name}", ours, baseline, None, note)


def _score(
    model: LensModel,
    candidates: Candidates,
    material: Material,
    tokens: Sequence[int],
    *,
    mode: Mode = "exact",
    prune: bool = False,
) -> list[CandidateScore]:
    return score(
        model, candidates, material.harmful_val, material.harmless_val, refusal_tokens=tokens, mode=mode, prune=prune
    )


def _stripe(
    model: LensModel, candidates: Candidates, layers: Sequence[int], material: Material, tokens: Sequence[int]
) -> tuple[Cost, list[CandidateScore]]:
    """The exact sweep over all positions of some layers: the preparation once, the rest scaled to all non-zero candidates."""
    prompts = [*material.harmful_val, *material.harmless_val]
    sites = [(position, layer) for position in candidates.positions for layer in layers]
    vectors = torch.stack([candidates.vector(*site) for site in sites])
    made: list[Evaluation] = []

    def prepare() -> None:
        passes = passes_for(model, model.render(prompts))
        contenders = Contenders(vectors, tuple(layer for _, layer in sites))
        plain = passes.plain()
        made.append(Evaluation(passes, contenders, plain=plain, n_harmful=len(material.harmful_val), token_ids=tokens))

    once = timed(prepare)
    each = timed(lambda: everything(made[0]))
    factor = (len(candidates.sites()) - len(candidates.positions)) / len(sites)
    cost = Cost(once.cpu + each.cpu * factor, once.wall + each.wall * factor)
    return cost, [CandidateScore(*site, *made[0].means(row)) for row, site in enumerate(sites)]


def _difference(ours: Sequence[CandidateScore], theirs: dict[tuple[int, int], Published]) -> float:
    found = {(item.position, item.layer): item for item in ours}
    return max(
        abs(mine - other)
        for site, values in theirs.items()
        for mine, other in zip(
            (found[site].refusal_score, found[site].steering_score, found[site].kl_div_score), values, strict=True
        )
        if mine is not None
    )


def _agreement(model: LensModel, exact: Sequence[CandidateScore], other: Sequence[CandidateScore]) -> str:
    one, two = (select(scores, n_layers=model.n_layers).selected for scores in (exact, other))
    sites = [None if item is None else (item.position, item.layer) for item in (one, two)]
    return f"selects {sites[1]}, the whole exact sweep {sites[0]}"
