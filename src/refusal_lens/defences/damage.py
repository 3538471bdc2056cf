"""What a defence does to text that it should leave alone: the untouched model's answers to harmless prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from refusal_lens.model import Intervention, LensModel, generate
from refusal_lens.types import Prompt

TOKENS = 24


@dataclass(frozen=True)
class Text:
    """A prompt, its tokens, and those of the untouched model's answer."""

    instruction: str
    prompt: list[int]
    answer: list[int]


def texts_of(model: LensModel, prompts: Mapping[str, Sequence[Prompt]]) -> dict[str, list[Text]]:
    """Let the untouched model answer; the answers by language, the empty ones left out."""
    items = [(language, item.text) for language, part in prompts.items() for item in part]
    answers = generate(model, [text for _, text in items], max_new_tokens=TOKENS)
    found: dict[str, list[Text]] = {}
    for (language, text), tokens, made in zip(items, model.render([text for _, text in items]), answers, strict=True):
        if made.token_ids:
            found.setdefault(language, []).append(Text(text, tokens, list(made.token_ids)))
    return found


def text_damage(
    before: LensModel, after: LensModel, texts: Sequence[Text], interventions: Sequence[Intervention]
) -> tuple[float, float]:
    """KL and loss on some texts.

    Args:
        before: The untouched model.
        after: The model that is measured, the same or one with other weights.
        texts: At least one; interventions with a row per prompt have these as their rows.
        interventions: Active in the second.

    Returns:
        Mean KL(before || after) and mean cross-entropy after, nats a token, each text counted once.
    """
    plain = _log_probabilities(before, texts, ())
    changed = _log_probabilities(after, texts, interventions)
    kl: list[float] = []
    loss: list[float] = []
    for item, p, q in zip(texts, plain, changed, strict=True):
        target = torch.tensor(item.answer, device=q.device).unsqueeze(1)
        kl.append(float((p.exp() * (p - q)).sum(-1).mean()))
        loss.append(float(-q.gather(1, target).mean()))
    return sum(kl) / len(kl), sum(loss) / len(loss)


@torch.no_grad()
def _log_probabilities(model: LensModel, texts: Sequence[Text], interventions: Sequence[Intervention]) -> list[Tensor]:
    batch = model.batch([item.prompt + item.answer for item in texts])
    longest = max(len(item.answer) for item in texts)
    with model.edited(interventions):
        logits = model.hf(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
            logits_to_keep=longest + 1,
        ).logits
    return [logits[row, -len(item.answer) - 1 : -1].float().log_softmax(-1) for row, item in enumerate(texts)]
