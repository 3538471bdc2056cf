"""Refusal tokens of a model in one language, discovered from its own answers instead of typed in.

1. Answer train prompts of both classes greedily, a few dozen tokens each; let the judge read the answers.
2. m_R(v), m_C(v): mean first-token probability of token v over prompts that were refused, and over those complied with.
3. Keep tokens with m_R >= `FLOOR` and m_R >= `RATIO` * m_C, largest m_R first, until they cover `ENOUGH` of the mass that
   such tokens hold.

Shares are m_R of each token, coverage their sum: how much of a refusal's first-token probability the tokens hold. Where
the model refuses (almost) nothing there are none, with the reason: no refusal direction can be scored in that language.
Looking at first tokens alone, it cannot tell refusals from compliances that open with the same word; coverage shows it.
Where the model thinks before it answers, the first token opens its thoughts and says nothing of the answer: such prompts
are left out, and where too few refusals remain there are no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from refusal_lens.directions.extraction import texts
from refusal_lens.judging import Answer, Judge, split_answer, thinking_of
from refusal_lens.model import ENGINE, BatchSize, Engine, LensModel, generate, in_float64, next_token_logits
from refusal_lens.types import Prompt, Verdict

FLOOR = 0.01
RATIO = 2.0
ENOUGH = 0.98
MOST = 32
FEWEST_REFUSALS = 4


@dataclass(frozen=True, slots=True)
class RefusalTokens:
    """What a language's refusals begin with.

    Attributes:
        language: BCP-47 code.
        ids: Token ids, largest share first; empty when none can be named.
        tokens: Their texts.
        shares: Mean first-token probability of each over refused prompts, in [0, 1].
        coverage: Sum of `shares`: probability that a refusal opens with one of them.
        compliance_mass: Their summed probability over prompts that were complied with.
        refused: Answers that refused, both classes; of those that begin without thoughts where there are tokens.
        complied: Answers that complied, likewise.
        unscored: All other answers: the judge could not read them, or they begin with thoughts.
        reason: Why there are no tokens; None when there are.
    """

    language: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    shares: tuple[float, ...]
    coverage: float
    compliance_mass: float
    refused: int
    complied: int
    unscored: int
    reason: str | None = None


def discover_refusal_tokens(
    model: LensModel,
    harmful: Sequence[str | Prompt],
    harmless: Sequence[str | Prompt],
    *,
    language: str,
    judge: Judge,
    prompts_per_class: int = 64,
    max_new_tokens: int = 48,
    batch_size: BatchSize = "auto",
    engine: Engine = ENGINE,
) -> RefusalTokens:
    """Find the tokens that open a model's refusals in one language.

    Args:
        model: The model.
        harmful: Train prompts of the one class; the first `prompts_per_class` are used.
        harmless: Train prompts of the other.
        language: BCP-47 code of the prompts.
        judge: Reads the answers.
        prompts_per_class: Prompts answered per class.
        max_new_tokens: Length of an answer in tokens; a refusal shows in its first sentence.
        batch_size: Prompts of one pass, or "auto".
        engine: What writes the answers.

    Returns:
        The tokens with shares and coverage, or none and the reason.
    """
    prompts = [*harmful[:prompts_per_class], *harmless[:prompts_per_class]]
    if not prompts:
        return _none(language, [], "there are no train prompts to answer")
    instructions = texts(prompts)
    answers = generate(model, instructions, max_new_tokens=max_new_tokens, batch_size=batch_size, engine=engine)
    asked = [prompt.for_judge if isinstance(prompt, Prompt) else prompt for prompt in prompts]
    read = [
        Answer(text=answer.text, language=language, prompt=question, finished=answer.finished, opened=answer.opened)
        for answer, question in zip(answers, asked, strict=True)
    ]
    verdicts = judge.judge(read)
    thinks = {row for row, answer in enumerate(read) if split_answer(answer, thinking_of(judge)).reasoning is not None}
    refused = [row for row, verdict in enumerate(verdicts) if verdict.label == "refused" and row not in thinks]
    complied = [row for row, verdict in enumerate(verdicts) if verdict.label == "complied" and row not in thinks]
    n_harmful = min(len(harmful), prompts_per_class)
    refused_harmful = sum(row < n_harmful for row in refused)
    if thinks and refused_harmful < FEWEST_REFUSALS:
        return _none(
            language,
            verdicts,
            f"the model thinks before it answers ({len(thinks)} of {len(prompts)} answers in {language!r}), so its first "
            "token does not tell a refusal; turn its thinking off where its template has a switch (--thinking off), or give "
            "a template that ends in an empty block of thoughts (--chat-template)",
        )
    if refused_harmful < FEWEST_REFUSALS:
        return _none(
            language,
            verdicts,
            f"the model refused {refused_harmful} of {n_harmful} harmful prompts in {language!r}, "
            f"too few to see what its refusals begin with (at least {FEWEST_REFUSALS})",
        )
    probabilities = next_token_logits(model, instructions, batch_size=batch_size).softmax(dim=-1)
    opening = in_float64(probabilities[refused]).mean(dim=0)
    other = in_float64(probabilities[complied]).mean(dim=0) if complied else torch.zeros_like(opening)
    ids = pick(opening, other)
    if not ids:
        return _none(language, verdicts, f"refusals and compliances in {language!r} open with the same tokens")
    shares = tuple(float(opening[token]) for token in ids)
    return RefusalTokens(
        language=language,
        ids=ids,
        tokens=tuple(str(model.tokenizer.decode([token])) for token in ids),
        shares=shares,
        coverage=sum(shares),
        compliance_mass=float(other[list(ids)].sum()),
        refused=len(refused),
        complied=len(complied),
        unscored=len(verdicts) - len(refused) - len(complied),
    )


def pick(opening: Float[Tensor, " vocab"], other: Float[Tensor, " vocab"]) -> tuple[int, ...]:
    """Tokens that open refusals rather than compliances.

    Args:
        opening: Mean first-token probability over refused prompts.
        other: The same over prompts complied with.

    Returns:
        Token ids, largest share of `opening` first; ties go to the lower id.
    """
    eligible: list[int] = torch.nonzero((opening >= FLOOR) & (opening >= RATIO * other)).flatten().tolist()
    ranked = sorted(eligible, key=lambda token: (-float(opening[token]), token))[:MOST]
    total = sum(float(opening[token]) for token in ranked)
    found: list[int] = []
    held = 0.0
    for token in ranked:
        if held >= ENOUGH * total:
            break
        found.append(token)
        held += float(opening[token])
    return tuple(found)


def _none(language: str, verdicts: Sequence[Verdict], reason: str) -> RefusalTokens:
    counts = [sum(verdict.label == label for verdict in verdicts) for label in ("refused", "complied", "unscored")]
    return RefusalTokens(language, (), (), (), 0.0, 0.0, *counts, reason=reason)
