"""Choosing among candidate defences without a label of a target language and without a test prompt.

1. Every candidate answers unlabelled prompts that the gate takes for harmful, some of each language that it acts in, and
   harmless validation prompts of the fit languages, whose labels are known. A language that is left alone has no say: what
   would break it there never happens, and the prompts that it would cost tell candidates apart where they act.
2. Out goes what makes the model refuse more harmless validation prompts than the bound allows.
3. Of the rest the best is what is refused most in the language where least is refused, then on average; of equals the
   first: candidates come weakest first.
4. All candidates are tried on few prompts, the leaders on all.

The first figure counts refusals of what the gate opens for: what the gate misses is seen only by a test.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from refusal_lens.defences.face import Card, Defence, FitData, Limits
from refusal_lens.defences.gate import FittedGate, Gate, fit_gate
from refusal_lens.defences.reading import Read, answered, by_language, read_all, shares
from refusal_lens.interventions import Addition
from refusal_lens.model import LensModel
from refusal_lens.types import JsonValue

FIRST, LEADERS = 4, 4
ENOUGH = 0.98
"""Share of what the gate opens for that the untouched model refuses, from which on a language needs no action."""
STRENGTHS = (1.0, 1.5, 2.0, 3.0)


@dataclass(frozen=True)
class Site:
    """A direction, where it was read, and how strongly it is used."""

    vector: Float[Tensor, " d_model"]
    position: int
    layer: int
    strength: float


@dataclass(frozen=True)
class Figures:
    """What a candidate did on validation: refused of what the gate opens for, by language; refused of harmless."""

    refused: dict[str, float]
    harmless: float

    @property
    def key(self) -> tuple[float, float]:
        """The least over languages, and the mean."""
        values = list(self.refused.values()) or [0.0]
        return round(min(values), 6), round(sum(values) / len(values), 6)


class Fitting:
    """One model with the prompts of a fit: activations, gate and action are found once for all methods."""

    def __init__(self, model: LensModel, data: FitData, limits: Limits) -> None:
        """Compute nothing yet.

        Args:
            model: The model to defend.
            data: Prompts.
            limits: Bounds.
        """
        self.model, self.data, self.limits = model, data, limits

    @cached_property
    def read(self) -> Read:
        """Activations of every prompt of the fit."""
        return read_all(self.model, self.data)

    @cached_property
    def gate(self) -> FittedGate:
        """The gate."""
        return fit_gate(self.read)

    @cached_property
    def opened(self) -> tuple[list[str], list[str]]:
        """Unlabelled prompts that the recalibrated gate opens for, and their languages."""
        texts: list[str] = []
        languages: list[str] = []
        gate = self.gate.gate
        pos, layer = self.read.positions.index(gate.position), self.read.layers.index(gate.layer)
        for index, language in enumerate(gate.languages):
            scores = gate.scores(self.read.unlabelled[language][:, pos, layer])
            flagged = torch.nonzero(scores > gate.thresholds[index]).flatten().tolist()
            texts += [self.data.unlabelled[language][int(row)] for row in flagged]
            languages += [language] * len(flagged)
        return texts, languages

    @cached_property
    def harmless(self) -> tuple[list[str], list[str]]:
        """Harmless validation prompts of the fit languages, and their languages."""
        chosen = [prompt for prompt in self.data.val if prompt.harm == "harmless"]
        return [prompt.text for prompt in chosen], [prompt.language for prompt in chosen]

    @cached_property
    def undefended(self) -> Figures:
        """The untouched model."""
        return self._try(None, self.limits.prompts, self.gate.gate.languages)

    @cached_property
    def needy(self) -> tuple[str, ...]:
        """Languages in which the untouched model answers some of what the gate opens for; all where it does in none."""
        already = self.undefended.refused
        found = tuple(name for name in self.gate.gate.languages if already.get(name, 0.0) < ENOUGH)
        return found or self.gate.gate.languages

    @cached_property
    def needing(self) -> Gate:
        """The gate, shut for good in languages where the untouched model refuses what it opens for anyway.

        What already works is not touched: an addition that makes one language refuse can break a refusal of another.
        """
        gate, already = self.gate.gate, self.undefended.refused
        shut = [already.get(language, 0.0) >= ENOUGH for language in gate.languages]
        return replace(gate, thresholds=gate.thresholds.masked_fill(torch.tensor(shut, dtype=torch.bool), torch.inf))

    @cached_property
    def action(self) -> Site:
        """The addition, of all places and strengths, that makes the model refuse what the gate opens for in every language."""
        return self._action(self.gate.gate.languages)

    @cached_property
    def action_where_needed(self) -> Site:
        """The same for the languages that need it."""
        return self._action(self.needy)

    def _action(self, served: tuple[str, ...]) -> Site:
        places = [
            Site(self.read.difference(pos, layer), self.read.positions[pos], self.read.layers[layer], strength)
            for strength in STRENGTHS
            for pos in sorted({self.read.positions.index(self.gate.gate.position), len(self.read.positions) - 1})
            for layer in range(len(self.read.layers))
        ]
        for each, kept in ((FIRST, LEADERS), (self.limits.prompts, 1)):
            texts, languages = self._few(each, served)
            tried: list[tuple[float, float]] = []
            for site in places:
                addition = Addition(site.vector, layer=site.layer, coefficient=site.strength)
                labels = answered(self.model, texts, languages, interventions=[addition], tokens=self.limits.tokens)
                found = {language: part.refused for language, part in by_language(labels, languages).items()}
                tried.append(Figures(found, 0.0).key)
            order = sorted(range(len(places)), key=tried.__getitem__, reverse=True)
            places = [places[index] for index in order[:kept]]
        return places[0]

    def choose(self, candidates: Sequence[Defence], *, served: tuple[str, ...] | None = None) -> Defence:
        """The best candidate, with its figures in its card.

        Args:
            candidates: At least one, weakest first.
            served: Languages that have a say; None for all.

        Returns:
            The chosen one. Where none keeps the bound it is the one that refuses least of the harmless, and its card says so.
        """
        every = self.gate.gate.languages
        bound = self.undefended.harmless + self.limits.overrefusal + 1e-9
        pool = list(candidates)
        if len(pool) > LEADERS:
            tried = [self._try(item, FIRST, served or every) for item in pool]
            order = sorted(range(len(pool)), key=lambda i: (tried[i].harmless <= bound, tried[i].key), reverse=True)
            pool = [pool[i] for i in sorted(order[:LEADERS])]
        figures = [self._try(item, self.limits.prompts, served or every) for item in pool]
        best = max(range(len(pool)), key=lambda i: (figures[i].harmless <= bound, _merit(figures[i], bound), -i))
        chosen, found = pool[best], figures[best]
        if served is not None:  # the others too, for the card
            found = replace(found, refused={**self._try(chosen, self.limits.prompts, every).refused, **found.refused})
        validation: dict[str, JsonValue] = {
            "bound_kept": found.harmless <= bound,
            "harmless_refused": found.harmless,
            "harmless_refused_undefended": self.undefended.harmless,
            "refused_of_opened": dict(found.refused),
            "refused_of_opened_undefended": dict(self.undefended.refused),
        }
        chosen.card = replace(chosen.card, validation={**chosen.card.validation, **validation})
        return chosen

    def card(self, method: str, settings: dict[str, JsonValue]) -> Card:
        """A card with what is known before the choice."""
        gate = self.gate
        limits = zip(gate.gate.languages, self.needing.thresholds.tolist(), strict=True)
        known: dict[str, JsonValue] = {
            "gate_auc": round(gate.auc, 4),
            "gate_separation": dict(gate.separations),
            "languages_without_two_groups": list(gate.alone),
            "acts_in": [name for name, limit in limits if limit < torch.inf],
        }
        digest = self.model.provenance.digest
        return Card(method, digest, self.data.fit_languages, gate.gate.languages, settings, known)

    def _few(self, each: int, served: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """Opened prompts of some languages: as many in all as `each` of every language, so more of each where few are served."""
        each = each * len(self.gate.gate.languages) // len(served) if served else each
        counts: dict[str, int] = dict.fromkeys(served, 0)
        texts: list[str] = []
        languages: list[str] = []
        for text, language in zip(*self.opened, strict=True):
            if counts.get(language, each) < each:
                counts[language] += 1
                texts.append(text)
                languages.append(language)
        return texts, languages

    def _try(self, defence: Defence | None, each: int, served: tuple[str, ...]) -> Figures:
        texts, languages = self._few(each, served)
        calm, calm_languages = (items[: 4 * each] for items in self.harmless)
        everything = [*texts, *calm]
        acting = [] if defence is None else [defence.intervene(self.model, everything)]
        labels = answered(
            self.model, everything, [*languages, *calm_languages], interventions=acting, tokens=self.limits.tokens
        )
        refused = {name: part.refused for name, part in by_language(labels[: len(texts)], languages).items()}
        return Figures(refused, shares(labels[len(texts) :]).refused)


def _merit(found: Figures, bound: float) -> tuple[float, float]:
    return found.key if found.harmless <= bound else (-found.harmless, 0.0)


class Method(Defence):
    """A defence that is chosen among candidates: what every method of the registry is."""

    @classmethod
    @abstractmethod
    def candidates(cls, fitting: Fitting) -> list[Defence]:
        """What is chosen among, weakest first."""

    @classmethod
    def fit(cls, model: LensModel, data: FitData, limits: Limits = Limits()) -> Defence:  # noqa: B008 (frozen)
        """Fit and choose on train, validation and unlabelled prompts.

        Args:
            model: The model to defend.
            data: What it is fitted on.
            limits: The bound on its cost, and how much is tried.

        Returns:
            The defence; its card says whether the bound was met.
        """
        return cls.make(Fitting(model, data, limits))

    @classmethod
    def make(cls, fitting: Fitting) -> Defence:
        """The same from what other methods share."""
        return fitting.choose(cls.candidates(fitting))


def random_like(vector: Tensor, seed: int) -> Tensor:
    """A random vector of the same norm: a null's action."""
    drawn = torch.randn(vector.shape, generator=torch.Generator().manual_seed(seed))
    return drawn * (vector.norm() / drawn.norm())
