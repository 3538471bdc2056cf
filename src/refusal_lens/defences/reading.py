"""Reads the residual stream of prompts at the template's positions, and answers prompts judged by the native judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from refusal_lens.defences.face import FitData
from refusal_lens.errors import DataError
from refusal_lens.judging import Answer, get_judge
from refusal_lens.model import Intervention, LensModel, generate, record
from refusal_lens.types import HARMS, Harm

MOST_LAYERS = 8
"""Layers that are read for a fit; of a deeper model as many, evenly spaced."""


def layers_of(model: LensModel) -> list[int]:
    """Layers a defence may act at or read: after the first block, in the first 80 % as the published rules have it."""
    last = max(1, int(0.8 * model.n_layers))
    every = list(range(1, last + 1))
    step = max(1, -(-len(every) // MOST_LAYERS))
    return every[step - 1 :: step]


def read(
    model: LensModel,
    texts: Sequence[str],
    layers: Sequence[int],
    *,
    positions: Sequence[int] | None = None,
    under: Sequence[Intervention] = (),
) -> Float[Tensor, "prompt pos layer d_model"]:
    """Residual stream of prompts at some positions and layers, float32 on the CPU, in input order."""
    wanted = list(model.positions if positions is None else positions)
    made = torch.empty(len(texts), len(wanted), len(layers), model.d_model)
    for rows, x in record(model, texts, positions=wanted, interventions=under, deepest=max(layers)):
        made[rows] = x[:, :, list(layers)].cpu()
    return made


@dataclass(frozen=True)
class Read:
    """Activations of everything that a fit reads, at the template's positions.

    Attributes:
        layers: The layers of the third axis.
        positions: The positions of the second.
        train, val: By class, labelled.
        unlabelled: By language.
    """

    layers: list[int]
    positions: list[int]
    train: dict[Harm, Tensor]
    val: dict[Harm, Tensor]
    unlabelled: dict[str, Tensor]

    def difference(self, pos: int, layer: int) -> Float[Tensor, " d_model"]:
        """mean(harmful) - mean(harmless) of train prompts at one place (indices)."""
        means = [self.train[harm][:, pos, layer].double().mean(0) for harm in HARMS]
        return (means[0] - means[1]).float()


def read_all(model: LensModel, data: FitData) -> Read:
    """Read every prompt of a fit.

    Args:
        model: The model.
        data: The prompts.

    Returns:
        Their activations.

    Raises:
        DataError: A class has no labelled train or validation prompts.
    """
    layers = layers_of(model)
    groups: dict[str, dict[Harm, Tensor]] = {}
    for name, prompts in (("train", data.train), ("val", data.val)):
        for harm in HARMS:
            texts = [prompt.text for prompt in prompts if prompt.harm == harm]
            if not texts:
                raise DataError(f"no {harm} {name} prompts in {', '.join(data.fit_languages) or 'any language'}")
            groups.setdefault(name, {})[harm] = read(model, texts, layers)
    unlabelled = {language: read(model, list(texts), layers) for language, texts in data.unlabelled.items() if texts}
    return Read(layers, list(model.positions), groups["train"], groups["val"], unlabelled)


@dataclass(frozen=True)
class Shares:
    """What became of some answers, as shares of all of them."""

    refused: float
    unscored: float
    n: int


def answered(
    model: LensModel,
    texts: Sequence[str],
    languages: Sequence[str],
    *,
    interventions: Sequence[Intervention] = (),
    tokens: int,
) -> list[str]:
    """Labels (refused, complied, unscored) of the answers to some prompts."""
    if not texts:
        return []
    answers = generate(model, texts, max_new_tokens=tokens, interventions=interventions)
    verdicts = get_judge("native").judge(
        [
            Answer(made.text, language=language, finished=made.finished, opened=made.opened)
            for made, language in zip(answers, languages, strict=True)
        ]
    )
    return [verdict.label for verdict in verdicts]


def shares(labels: Sequence[str]) -> Shares:
    """Shares of refused and unscored answers."""
    n = len(labels)
    return Shares(labels.count("refused") / n if n else 0.0, labels.count("unscored") / n if n else 0.0, n)


def by_language(labels: Sequence[str], languages: Sequence[str]) -> Mapping[str, Shares]:
    """Shares of each language."""
    groups: dict[str, list[str]] = {}
    for label, language in zip(labels, languages, strict=True):
        groups.setdefault(language, []).append(label)
    return {language: shares(found) for language, found in groups.items()}
