"""The baseline: a plain implementation of the published procedure, the way its authors wrote it.

One forward pass per candidate, prompt set and score; hooks on every block input, attention output and MLP output that
change activations in place; batches of 32 padded on the left in file order; logits of the whole sequence, cast to float64
before the last position is taken; key/value cache left on; no position ids. It uses transformers alone and nothing of
refusal_lens, so that it can also serve tests as an independent oracle.

Source: `select_direction.py`, `generate_directions.py`, `hook_utils.py` of Arditi et al. 2024, followed by Wang et al. 2025.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH = 32
Hook = tuple[nn.Module, Callable[..., object]]


@dataclass(frozen=True)
class Parts:
    """The modules the published hooks sit on."""

    blocks: list[nn.Module]
    attentions: list[nn.Module]
    mlps: list[nn.Module]


def parts_of(model: PreTrainedModel) -> Parts:
    """Blocks, attention and MLP modules of a decoder with `model.layers[i].self_attn` and `.mlp`."""
    blocks = list(model.model.layers)
    return Parts(blocks, [block.self_attn for block in blocks], [block.mlp for block in blocks])


@contextmanager
def hooked(*, before: Sequence[Hook] = (), after: Sequence[Hook] = ()) -> Iterator[None]:
    """Hooks for the time of the block."""
    handles = [module.register_forward_pre_hook(hook) for module, hook in before]
    handles += [module.register_forward_hook(hook) for module, hook in after]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def batches(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], *, device: torch.device | str = "cpu"
) -> Iterator[dict[str, Tensor]]:
    """Rendered prompts in file order, 32 at a time, padded on the left, on the model's device as its authors keep them."""
    tokenizer.padding_side = "left"
    for start in range(0, len(prompts), BATCH):
        chats = [[{"role": "user", "content": prompt}] for prompt in prompts[start : start + BATCH]]
        texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
        encoded = tokenizer(texts, padding=True, truncation=False, add_special_tokens=False, return_tensors="pt")
        yield {"input_ids": encoded.input_ids.to(device), "attention_mask": encoded.attention_mask.to(device)}


def mean_activations(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], positions: Sequence[int]
) -> Tensor:
    """float64 [position, layer, d_model]: mean input of every block."""
    blocks = parts_of(model).blocks
    total = torch.zeros(len(positions), len(blocks), model.config.hidden_size, dtype=torch.float64)
    total = total.to(model.device)

    def keep(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            total[:, layer] += 1.0 / len(prompts) * inputs[0][:, list(positions), :].to(total).sum(dim=0)

        return hook

    with hooked(before=[(block, keep(layer)) for layer, block in enumerate(blocks)]):
        for batch in batches(tokenizer, prompts, device=model.device):
            model(**batch)
    return total


def ablation_hooks(model: PreTrainedModel, direction: Tensor) -> dict[str, list[Hook]]:
    """Remove the unit direction at every block input and every attention and MLP output, in place."""

    def remove(activation: Tensor) -> None:
        unit = direction / (direction.norm(dim=-1, keepdim=True) + 1e-8)
        activation -= (activation @ unit.to(activation)).unsqueeze(-1) * unit.to(activation)

    def enter(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        remove(inputs[0])
        return inputs

    def leave(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> object:
        remove(output[0] if isinstance(output, tuple) else output)
        return output

    parts = parts_of(model)
    return {
        "before": [(block, enter) for block in parts.blocks],
        "after": [(module, leave) for module in (*parts.attentions, *parts.mlps)],
    }


def addition_hooks(model: PreTrainedModel, direction: Tensor, layer: int) -> dict[str, list[Hook]]:
    """Add the raw direction at the input of its own layer, in place."""

    def enter(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        activation = inputs[0]
        activation += direction.to(activation)
        return inputs

    return {"before": [(parts_of(model).blocks[layer], enter)], "after": []}


def refusal_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    token_ids: Sequence[int],
    hooks: dict[str, list[Hook]] | None = None,
) -> Tensor:
    """float32 [prompt]: log-odds of the refusal tokens as first answer token."""
    found: list[Tensor] = []
    with hooked(**(hooks or {})):
        for batch in batches(tokenizer, prompts, device=model.device):
            logits = model(**batch).logits.to(torch.float64)
            probabilities = torch.nn.functional.softmax(logits[:, -1, :], dim=-1)
            p = probabilities[:, list(token_ids)].sum(dim=-1)
            found.append((torch.log(p + 1e-8) - torch.log(1 - p + 1e-8)).float())
    return torch.cat(found)


def last_logits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    hooks: dict[str, list[Hook]] | None = None,
) -> Tensor:
    """[prompt, vocab] logits of the last position."""
    found: Tensor | None = None
    with hooked(**(hooks or {})):
        for batch in batches(tokenizer, prompts, device=model.device):
            logits = model(**batch).logits
            last = logits[:, -1, :]
            found = last if found is None else torch.cat((found, last), dim=0)
    assert found is not None
    return found


def kl_divergence(before: Tensor, after: Tensor) -> float:
    """Mean over prompts of the published (truncated) KL divergence in nats."""
    p = before.to(torch.float64).softmax(dim=-1)
    q = after.to(torch.float64).softmax(dim=-1)
    return float((p * (torch.log(p + 1e-6) - torch.log(q + 1e-6))).sum(dim=-1).mean())


def candidate_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    direction: Tensor,
    layer: int,
    harmful: Sequence[str],
    harmless: Sequence[str],
    token_ids: Sequence[int],
    baseline: Tensor,
) -> tuple[float, float, float]:
    """(refusal, steering, KL) of one candidate: the three sweeps the selection needs, one forward pass per batch each."""
    ablation = ablation_hooks(model, direction)
    refusal = refusal_scores(model, tokenizer, harmful, token_ids, ablation).mean()
    divergence = kl_divergence(baseline, last_logits(model, tokenizer, harmless, ablation))
    addition = addition_hooks(model, direction, layer)
    steering = refusal_scores(model, tokenizer, harmless, token_ids, addition).mean()
    return float(refusal), float(steering), divergence
