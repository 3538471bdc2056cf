"""Candidates from prompts: the difference of class means of the residual stream, streamed.

    candidate(p, L) = mean over harmful of x(p, L) - mean over harmless of x(p, L)

x(p, L) is the residual stream entering block L at position p. Sums are kept in float64, batch after batch, so memory does
not grow with the number of prompts. Nothing is filtered here: what is passed in is averaged.

Source: `generate_directions.py` of Arditi et al. 2024.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refusal_lens.directions.candidates import Candidates
from refusal_lens.directions.direction import Direction
from refusal_lens.errors import UserError
from refusal_lens.model import BatchSize, LensModel, in_float64, record
from refusal_lens.types import Prompt


def texts(prompts: Sequence[str | Prompt]) -> list[str]:
    """The instructions of prompts given as plain strings or as `Prompt`s."""
    return [prompt.text if isinstance(prompt, Prompt) else prompt for prompt in prompts]


def mean_activations(
    model: LensModel, prompts: Sequence[str | Prompt], *, batch_size: BatchSize = "auto"
) -> Float[Tensor, "pos layer d_model"]:
    """Mean residual stream entering every block at the post-instruction positions.

    Args:
        model: The model.
        prompts: At least one.
        batch_size: Prompts of one pass, or "auto".

    Returns:
        float64 on the CPU, positions as in `model.positions`.

    Raises:
        UserError: There is no prompt, or the activations are not finite.
    """
    if not prompts:
        raise UserError("no prompts to average over: give at least one of each class")
    instructions = texts(prompts)
    total = torch.zeros(len(model.positions), model.n_layers, model.d_model, dtype=torch.float64)
    for _, activations in record(model, instructions, batch_size=batch_size):
        total += in_float64(activations).sum(dim=0).cpu()
    if not torch.isfinite(total).all():
        raise UserError(f"activations overflow in {model.dtype}: load the model with --dtype float32 or bfloat16")
    return total / len(prompts)


def extract(
    model: LensModel,
    harmful: Sequence[str | Prompt],
    harmless: Sequence[str | Prompt],
    *,
    batch_size: BatchSize = "auto",
) -> Candidates:
    """Candidate directions at every post-instruction position and layer.

    Args:
        model: The model.
        harmful: Prompts of the one class; none is filtered out.
        harmless: Prompts of the other.
        batch_size: Prompts of one pass, or "auto".

    Returns:
        Candidates in float32, with the harmless mean and its projection on each.
    """
    means = [mean_activations(model, prompts, batch_size=batch_size) for prompts in (harmful, harmless)]
    difference = means[0] - means[1]
    norm = difference.norm(dim=-1)
    projection = (means[1] * difference).sum(dim=-1) / norm.clamp_min(torch.finfo(torch.float64).tiny)
    return Candidates(
        tensor=difference.float(),
        positions=tuple(model.positions),
        n_harmful=len(harmful),
        n_harmless=len(harmless),
        model_digest=model.provenance.digest,
        harmless_projection=torch.where(norm > 0, projection, 0.0).float(),
        harmless_mean=means[1].float(),
    )


def balanced_halves(
    harmful: Sequence[str | Prompt], harmless: Sequence[str | Prompt], *, seed: int
) -> tuple[list[str], list[str]]:
    """Two groups with the labels shuffled away: half of each class in both.

    Unbalanced halves are no null for ablation: a chance surplus of one class leaves a little of the refusal direction,
    and ablation ignores its length. Groups of odd classes drop one prompt.

    Args:
        harmful: Prompts of the one class.
        harmless: Prompts of the other.
        seed: Seed of the shuffle.

    Returns:
        The two groups, of equal size and equal composition.
    """
    draw = random.Random(seed)
    first: list[str] = []
    second: list[str] = []
    for prompts in (texts(harmful), texts(harmless)):
        shuffled = draw.sample(prompts, len(prompts))
        half = len(prompts) // 2
        first += shuffled[:half]
        second += shuffled[half : 2 * half]
    return first, second


def shuffled_direction(
    model: LensModel,
    like: Direction,
    harmful: Sequence[str | Prompt],
    harmless: Sequence[str | Prompt],
    *,
    seed: int,
    batch_size: BatchSize = "auto",
) -> Direction:
    """A null from shuffled labels (balanced halves), at the site of a real direction and scaled to its norm.

    Args:
        model: The model.
        like: The direction whose place it takes.
        harmful: The train prompts `like` was extracted from.
        harmless: Those of the other class.
        seed: Seed of the shuffle.
        batch_size: Prompts of one pass, or "auto".

    Returns:
        Direction named "shuffled-SEED".

    Raises:
        UserError: A class has fewer than two prompts, or the halves do not differ.
    """
    halves = balanced_halves(harmful, harmless, seed=seed)
    if min(len(harmful), len(harmless)) < 2:
        raise UserError("shuffled labels need at least two prompts of each class")
    found = extract(model, *halves, batch_size=batch_size).vector(like.position, like.layer)
    norm = float(in_float64(found).norm())
    if norm == 0:
        raise UserError(f"shuffled halves do not differ at position {like.position}, layer {like.layer}")
    scaled = in_float64(found) * (float(in_float64(like.vector).norm()) / norm)
    return Direction(scaled.float(), like.position, like.layer, f"shuffled-{seed}", like.model_digest)
