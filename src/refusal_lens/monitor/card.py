"""What is known about a monitor and kept beside its weight: where it reads, for which model and languages, what it promises.

A score s becomes z = (s - middle) / half, so that harmless prompts of a language lie about -1 and harmful ones about +1, and
then a probability p = 1 / (1 + exp(-(slope z + intercept))) for as many harmful prompts as harmless ones. A prompt is flagged
where p >= threshold. Each language has its own middle, half and threshold; "*" serves all others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from jaxtyping import Float, Float64
from scipy.special import expit

from refusal_lens.errors import DataError
from refusal_lens.types import JsonValue

SCHEMA_VERSION = 1
OTHERS = "*"
How: TypeAlias = Literal["labels", "unlabelled", "few labels", "centred", "borrowed"]
HOWS: Mapping[str, str] = {
    "labels": "split-conformal on labelled harmful prompts of the language",
    "unlabelled": "no label of the language: its unlabelled prompts fall into two groups, the upper one stands in",
    "few labels": "moved by a few labelled harmful prompts of the language",
    "centred": "its unlabelled prompts form no two groups: the fit languages' threshold, moved to their mean; no promise",
    "borrowed": "nothing of the language was seen: the fit languages' threshold; no promise",
}
LIMITS = (
    "probabilities are for as many harmful prompts as harmless ones; traffic has other shares, thresholds do not depend on it",
    "a promise holds for prompts like those of the domains above; `monitor evaluate` shows what shifts do to it",
    "a monitor that an attacker may query can be optimised against; it is one layer of a defence",
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A language's scale and threshold.

    Attributes:
        how: Where they come from; `HOWS` says it in words.
        middle: Score half way between harmless and harmful prompts.
        half: Half of their distance.
        threshold: Probability from which a prompt is flagged.
        promised: Miss rate that conformal prediction promises; None where nothing does.
        n: Prompts it comes from: labelled harmful ones, or unlabelled ones.
        separation: Share of the variance between the two groups of unlabelled prompts; None without.
        harmless: Deciles (0.1 .. 0.9) of z over harmless prompts, the reference of the drift alarm; empty where unknown.
    """

    how: How
    middle: float
    half: float
    threshold: float
    promised: float | None
    n: int
    separation: float | None = None
    harmless: tuple[float, ...] = ()

    def standard(self, scores: Float[np.ndarray, " prompt"]) -> Float64[np.ndarray, " prompt"]:
        """Raw scores as z."""
        return (np.asarray(scores, np.float64) - self.middle) / self.half


@dataclass(frozen=True)
class Card:
    """The validity card of a monitor.

    Attributes:
        model: spec, digest, template_digest, architecture, dtype of the model it belongs to.
        method: projection or logistic.
        position: Offset from the prompt's end that is read.
        layer: Layer that is read.
        slope: Of the probability, see the module's docstring.
        intercept: Likewise.
        target_miss: Miss rate that the thresholds aim at.
        fit_languages: Languages whose labels were used.
        domains: Prompt sets, and categories where known, that it was fitted on.
        calibrations: By language; "*" for every other.
        validation: AUROC on validation, separation on other languages' prompts, how many detectors were tried.
        evaluation: Rows of the last `monitor evaluate`; empty before.
    """

    model: Mapping[str, str]
    method: str
    position: int
    layer: int
    slope: float
    intercept: float
    target_miss: float
    fit_languages: tuple[str, ...]
    domains: tuple[str, ...]
    calibrations: Mapping[str, Calibration]
    validation: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    evaluation: Sequence[Mapping[str, JsonValue]] = ()

    def calibration(self, language: str | None) -> Calibration:
        """A language's calibration; that of all others where it has none."""
        return self.calibrations.get(language or OTHERS, self.calibrations[OTHERS])

    def probability(
        self, scores: Float[np.ndarray, " prompt"], calibration: Calibration
    ) -> Float64[np.ndarray, " prompt"]:
        """Raw scores of one language as probabilities."""
        return expit(self.slope * calibration.standard(scores) + self.intercept)

    def as_json(self) -> dict[str, JsonValue]:
        """The card as JSON."""
        content = cast("dict[str, JsonValue]", asdict(self))
        return {"schema_version": SCHEMA_VERSION, **content, "limits": list(LIMITS)}

    @classmethod
    def from_json(cls, content: Mapping[str, JsonValue], where: str) -> Card:
        """Read a card.

        Args:
            content: What `as_json` gave.
            where: Its origin, for messages.

        Returns:
            The card.

        Raises:
            DataError: Another schema, or a part is missing or no number.
        """
        if content.get("schema_version") != SCHEMA_VERSION:
            raise DataError(f"{where}: not the card of a monitor of schema {SCHEMA_VERSION}; fit it again")
        try:
            kept = {item.name: content[item.name] for item in fields(cls)}
            raw = cast("Mapping[str, Mapping[str, JsonValue]]", kept["calibrations"])
            calibrations = {
                code: Calibration(**cast("Any", {**one, "harmless": tuple(cast("list[float]", one["harmless"]))}))
                for code, one in raw.items()
            }
            lists = {name: tuple(cast("list[str]", kept[name])) for name in ("fit_languages", "domains")}
            card = cls(**{**kept, **lists, "calibrations": calibrations})  # pyright: ignore[reportArgumentType]
            numbers = [card.slope, card.intercept, card.target_miss]
            numbers += [value for one in calibrations.values() for value in (one.middle, one.half, one.threshold)]
            sound = OTHERS in calibrations and all(math.isfinite(float(value)) for value in numbers)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{where}: the card of a monitor, but damaged ({error}); fit it again") from None
        if not sound or card.slope <= 0 or any(one.half <= 0 for one in calibrations.values()):
            raise DataError(f"{where}: the card of a monitor, but its numbers cannot be right; fit it again")
        return card
