"""The gate: is this prompt harmful, read from the residual stream before anything is answered?

    score = x.w + b           log-odds of a logistic fit on labelled prompts of the fit languages, at one position and layer
    open  = score > threshold

1. Threshold from labels: where both classes of the fit languages are equally many spreads away.
2. Threshold of a language without labels: its unlabelled scores are cut into the two groups with the largest variance
   between them (Otsu 1979, exact), and the threshold is again equally many spreads from both. Where the two groups explain
   no more than two halves of one bell curve would, the language keeps the threshold of the fit languages.
3. The place is where the labels separate on validation as well as anywhere, and where the unlabelled prompts of the worst
   language fall apart most clearly.
4. A row's language is the nearest mean of the languages' unlabelled prompts (Mahalanobis, one covariance for all).

No label of a target language is used. A threshold of step 2 supposes that its prompts were a mixture of both classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from refusal_lens.defences.reading import Read, read
from refusal_lens.model import Intervention, LensModel
from refusal_lens.types import HARMS

ONE_BELL = 0.70
"""Share of the variance that two groups must explain; the halves of one normal distribution explain 2/pi = 0.64."""
FEWEST = 8
"""Unlabelled prompts without which a language keeps the fit languages' threshold."""
AS_GOOD = 0.002
"""AUC that a place may lie below the best one."""
REGULARISATION = 0.01


@dataclass(frozen=True)
class Cut:
    """Two groups of numbers: a threshold between them, how far apart they are in spreads, how much variance they explain."""

    threshold: float
    separation: float
    explained: float


def between(low: Float[np.ndarray, " n"], high: Float[np.ndarray, " m"]) -> Cut:
    """The threshold that is equally many standard deviations from two groups."""
    spreads = [float(group.std()) + 1e-9 for group in (low, high)]
    means = [float(group.mean()) for group in (low, high)]
    threshold = (means[0] * spreads[1] + means[1] * spreads[0]) / sum(spreads)
    both = np.concatenate([low, high])
    within = (low.var() * len(low) + high.var() * len(high)) / len(both)
    explained = 1 - within / both.var() if both.var() > 0 else 0.0
    return Cut(threshold, (means[1] - means[0]) / math.sqrt((spreads[0] ** 2 + spreads[1] ** 2) / 2), float(explained))


def cut_in_two(values: Float[np.ndarray, " n"]) -> Cut:
    """Cut unlabelled numbers into the two groups with the largest variance between them.

    Args:
        values: At least two.

    Returns:
        The cut; `explained` says whether two groups are there at all.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    counts = np.arange(1, n)
    sums = np.cumsum(ordered)[:-1]
    gap = sums / counts - (ordered.sum() - sums) / (n - counts)
    first = int(np.argmax(counts * (n - counts) * gap**2)) + 1
    return between(ordered[:first], ordered[first:])


@dataclass(frozen=True, eq=False)
class Gate:
    """A fitted gate.

    Attributes:
        position: Token position it reads (negative offset from the prompt's end).
        layer: Layer it reads.
        weight: w, [d_model]; bias: b.
        threshold: Of the fit languages.
        languages: Languages with unlabelled prompts.
        thresholds: Of each of them, [lang].
        gaps: Distance of the two groups of each of them, in log-odds, [lang]; that of the fit languages where there are not two.
        centres: Means of each of them, [lang d_model]; precision: inverse of their common covariance.
    """

    position: int
    layer: int
    weight: Float[Tensor, " d_model"]
    bias: float
    threshold: float
    languages: tuple[str, ...]
    thresholds: Float[Tensor, " lang"]
    gaps: Float[Tensor, " lang"]
    centres: Float[Tensor, "lang d_model"]
    precision: Float[Tensor, "d_model d_model"]

    def read(
        self, model: LensModel, instructions: Sequence[str], under: Sequence[Intervention] = ()
    ) -> Float[Tensor, "row d_model"]:
        """What the gate reads of each prompt."""
        return read(model, instructions, [self.layer], positions=[self.position], under=under)[:, 0, 0]

    def scores(self, x: Float[Tensor, "row d_model"]) -> Float[Tensor, " row"]:
        """Log-odds of harm."""
        return x @ self.weight + self.bias

    def language_of(self, x: Float[Tensor, "row d_model"]) -> Int[Tensor, " row"]:
        """Index of the language whose prompts are nearest."""
        off = x.unsqueeze(1) - self.centres
        return torch.einsum("rlc,cd,rld->rl", off, self.precision, off).argmin(1)

    def opened(self, x: Float[Tensor, "row d_model"], *, recalibrated: bool) -> Bool[Tensor, " row"]:
        """Which prompts are taken for harmful: by their language's own threshold, or by one for all."""
        if recalibrated and self.languages:
            return self.scores(x) > self.thresholds[self.language_of(x)]
        return self.scores(x) > self.threshold

    def flags(self, opened: Bool[Tensor, " row"], languages: Sequence[str], *, recalibrated: bool) -> list[bool | None]:
        """`opened` as a list, None in languages in which a recalibrated gate is shut for good."""
        limits = zip(self.languages, self.thresholds.tolist(), strict=True)
        shut = {language for language, limit in limits if recalibrated and limit == math.inf}
        pairs = zip(opened.tolist(), languages, strict=True)
        return [None if language in shut else bool(flag) for flag, language in pairs]

    def tensors(self) -> dict[str, Tensor]:
        """Everything but the names, for a file."""
        facts = torch.tensor([self.position, self.layer, self.bias, self.threshold], dtype=torch.float64)
        arrays = {name: getattr(self, name) for name in ("weight", "thresholds", "gaps", "centres", "precision")}
        return {"gate.facts": facts, **{f"gate.{name}": value for name, value in arrays.items()}}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], languages: tuple[str, ...]) -> Gate:
        """The gate of a file."""
        position, layer, bias, threshold = tensors["gate.facts"].tolist()
        weight, thresholds, gaps, centres, precision = (
            tensors[f"gate.{name}"] for name in ("weight", "thresholds", "gaps", "centres", "precision")
        )
        return cls(int(position), int(layer), weight, bias, threshold, languages, thresholds, gaps, centres, precision)


@dataclass(frozen=True)
class FittedGate:
    """A gate and the figures of its choice: AUC on validation, separation of the worst language's unlabelled prompts."""

    gate: Gate
    auc: float
    separations: dict[str, float]
    alone: tuple[str, ...]


def fit_gate(found: Read) -> FittedGate:
    """Fit a gate at every place and keep the best.

    Args:
        found: Activations of the labelled and unlabelled prompts.

    Returns:
        The gate with its figures; `alone` names the languages that keep the fit languages' threshold.
    """
    fitted: list[tuple[float, float, int, int, Tensor, float]] = []
    for pos in range(len(found.positions)):
        for layer in range(len(found.layers)):
            weight, bias = _logistic(*(found.train[harm][:, pos, layer] for harm in HARMS))
            held = [(found.val[harm][:, pos, layer] @ weight).numpy() for harm in HARMS]
            truth = np.repeat([1, 0], [len(group) for group in held])
            auc = float(roc_auc_score(truth, np.concatenate(held)))
            cuts = [
                cut_in_two((x[:, pos, layer] @ weight).numpy()).separation
                for x in found.unlabelled.values()
                if len(x) >= FEWEST
            ]
            fitted.append((auc, min(cuts, default=0.0), pos, layer, weight, bias))
    best = max(item[0] for item in fitted)
    auc, _, pos, layer, weight, bias = max(
        (item for item in fitted if item[0] >= best - AS_GOOD), key=lambda item: item[1]
    )
    labelled = [
        (torch.cat([part[harm][:, pos, layer] for part in (found.train, found.val)]) @ weight + bias).numpy()
        for harm in HARMS
    ]
    own = between(labelled[1], labelled[0])
    gap = float(labelled[0].mean() - labelled[1].mean())
    cuts = {
        language: cut_in_two((x[:, pos, layer] @ weight + bias).numpy())
        for language, x in found.unlabelled.items()
        if len(x) >= FEWEST
    }
    apart = {language: cut for language, cut in cuts.items() if cut.explained >= ONE_BELL}
    languages = tuple(found.unlabelled)
    rows = [found.unlabelled[language][:, pos, layer] for language in languages]
    gate = Gate(
        position=found.positions[pos],
        layer=found.layers[layer],
        weight=weight,
        bias=bias,
        threshold=own.threshold,
        languages=languages,
        thresholds=torch.tensor([apart[name].threshold if name in apart else own.threshold for name in languages]),
        gaps=torch.tensor([_gap(rows[i] @ weight + bias, apart.get(name), gap) for i, name in enumerate(languages)]),
        centres=torch.stack([x.mean(0) for x in rows]) if rows else torch.zeros(0, len(weight)),
        precision=_precision(rows, len(weight)),
    )
    separations = {language: round(cut.separation, 3) for language, cut in cuts.items()}
    return FittedGate(gate, auc, separations, tuple(name for name in languages if name not in apart))


def _gap(scores: Tensor, cut: Cut | None, otherwise: float) -> float:
    if cut is None:
        return otherwise
    above = scores > cut.threshold
    return float(scores[above].mean() - scores[~above].mean())


def _logistic(harmful: Tensor, harmless: Tensor) -> tuple[Tensor, float]:
    """Weights and bias of a logistic fit, in the units of the residual stream."""
    x = torch.cat([harmful, harmless]).double().numpy()
    mean, spread = x.mean(0), x.std(0) + 1e-6
    truth = np.repeat([1, 0], [len(harmful), len(harmless)])
    model = LogisticRegression(C=REGULARISATION, max_iter=1000, class_weight="balanced").fit((x - mean) / spread, truth)
    weight = model.coef_[0] / spread
    return torch.tensor(weight, dtype=torch.float32), float(model.intercept_[0] - mean @ weight)


def _precision(groups: Sequence[Tensor], width: int) -> Tensor:
    """Inverse of the common covariance of several groups, shrunk towards a multiple of one."""
    if not groups:
        return torch.eye(width)
    off = torch.cat([x - x.mean(0) for x in groups]).double()
    covariance = off.T @ off / len(off)
    shrink = float(covariance.diagonal().mean()) * 0.05 + 1e-9
    return torch.linalg.inv(covariance + shrink * torch.eye(width, dtype=torch.float64)).float()
