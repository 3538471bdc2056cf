"""What a monitor must beat: the prompt's length, its words, and random directions, fitted on the same labels as the monitor.

    length   characters of the prompt, longer or shorter being harmful as in the fit languages
    words    logistic regression on the words of the fit languages' prompts (single characters where no spaces are written)
    random   of RANDOM Gaussian directions at the monitor's own place the one, and the sign, that is best in the fit languages

A null that reaches a figure takes the claim away: what the monitor shows there, the null shows too. No torch here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from jaxtyping import Float
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from refusal_lens.geometry.separation import auc

RANDOM = 20
_WORDS = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|\w+")


@dataclass(frozen=True)
class Labelled:
    """The fit languages' labelled prompts and their activations [prompt, d_model] at the monitor's place."""

    harmful: Sequence[str]
    harmless: Sequence[str]
    harmful_rows: Float[np.ndarray, "_ d_model"]
    harmless_rows: Float[np.ndarray, "_ d_model"]


class Nulls:
    """The nulls of one monitor."""

    def __init__(self, labelled: Labelled, *, seed: int = 0) -> None:
        """Fit the nulls.

        Args:
            labelled: What the monitor was fitted on.
            seed: Of the random directions.
        """
        lengths = [np.asarray([len(text) for text in texts], float) for texts in (labelled.harmful, labelled.harmless)]
        self._sign = 1.0 if auc(lengths[0], lengths[1]) >= 0.5 else -1.0
        self._counter = CountVectorizer(analyzer=cast("Any", _words), binary=True)  # its stub knows names alone
        texts = [*labelled.harmful, *labelled.harmless]
        counts = self._counter.fit_transform(texts)
        self._words = LogisticRegression(C=1.0, max_iter=500)
        self._words.fit(counts, np.repeat([1, 0], [len(labelled.harmful), len(labelled.harmless)]))
        drawn = np.random.default_rng(seed).normal(size=(RANDOM, labelled.harmful_rows.shape[1]))
        reached = [auc(labelled.harmful_rows @ one, labelled.harmless_rows @ one) for one in drawn]
        best = max(range(RANDOM), key=lambda index: abs(reached[index] - 0.5))
        self._random = drawn[best] * (1.0 if reached[best] >= 0.5 else -1.0)

    def scores(
        self,
        harmful: tuple[Sequence[str], Float[np.ndarray, "_ d_model"]],
        harmless: tuple[Sequence[str], Float[np.ndarray, "_ d_model"]],
    ) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
        """Scores of test prompts under every null.

        Args:
            harmful: Texts and activations at the monitor's place.
            harmless: The same of the other class.

        Returns:
            Harmful and harmless scores by null.
        """
        both = harmful, harmless
        length = [self._sign * np.asarray([len(text) for text in texts], float) for texts, _ in both]
        words = [self._words.decision_function(self._counter.transform(list(texts))) for texts, _ in both]
        random = [rows.astype(np.float64) @ self._random for _, rows in both]
        return {
            "length": (length[0], length[1]),
            "words": (words[0], words[1]),
            "random direction": (random[0], random[1]),
        }


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORDS.findall(text)]
