"""From prompts to a monitor's weight and card: reads the activations that a fit needs and writes down what was found.

1. Places: the instruction's last token and the template's, at up to MOST_LAYERS layers.
2. Labelled prompts of the fit languages; without validation prompts every third is kept back for choosing. Where end marks tell
   the classes apart they are read with marks drawn at random (`endings`).
3. Unlabelled prompts of other languages, read as they are; no label of theirs is looked at. One that is the translation of a
   prompt that is fitted on (the same prompt id) is later scored by a weight that did not see that prompt.

Not done here: the choice, the scales and the thresholds (`fitting`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Int

from refusal_lens.errors import DataError
from refusal_lens.model import BatchSize, LensModel
from refusal_lens.monitor import endings
from refusal_lens.monitor.card import Card
from refusal_lens.monitor.detector import FOLDS, Examples
from refusal_lens.monitor.fitting import Unlabelled, fit
from refusal_lens.monitor.reading import places_of, read
from refusal_lens.types import Prompt

MOST_LAYERS = 16
FEWEST = 4

Labelled: TypeAlias = Mapping[str, tuple[Sequence[str | Prompt], Sequence[str | Prompt]]]
"""Harmful and harmless prompts by language."""


def learn(
    model: LensModel,
    labelled: Labelled,
    *,
    validation: Labelled | None,
    unlabelled: Mapping[str, Sequence[str | Prompt]] | None,
    target_miss: float,
    batch_size: BatchSize,
) -> tuple[Float32[np.ndarray, " d_model"], Card]:
    """Weight and card; arguments and errors are those of `Monitor.fit`, whose work this is."""
    for code, pair in labelled.items():
        if min(map(len, pair)) < FEWEST:
            raise DataError(
                f"{code}: {len(pair[0])} harmful and {len(pair[1])} harmless prompts; {FEWEST} of each at least"
            )
    if not labelled or not 0 < target_miss < 1:
        raise DataError("a monitor needs labelled prompts of a language, and a target miss between 0 and 1")
    places, layers = places_of(model), layers_of(model.n_layers)

    def recorded(texts: Sequence[str]) -> np.ndarray:
        return read(model, model.token_ids(texts), positions=places, layers=layers, batch_size=batch_size)

    folds = _Folds()
    examples: dict[str, Examples] = {}
    mixing = False
    for code, pair in labelled.items():
        parts: list[list[str | Prompt]] = [list(part) for part in pair]
        held: list[list[str | Prompt]] = [list(part) for part in (validation or {}).get(code, ((), ()))]
        if min(map(len, held)) < 2:  # too few to choose by: every third of all
            whole = [one + other for one, other in zip(parts, held, strict=True)]
            parts, held = [_without_third(part) for part in whole], [part[::3] for part in whole]
        texts = [[_text(prompt) for prompt in part] for part in (*parts, *held)]
        plain = [recorded(part) for part in texts]
        rows = plain
        if endings.distance(texts[0], texts[1]) > endings.FAR:
            mixing = True
            rows = [recorded(endings.mixed(part, [*texts[0], *texts[1]])) for part in texts]
        examples[code] = Examples(
            *rows,
            plain=None if rows is plain else (plain[0], plain[1], plain[2], plain[3]),
            folds=(folds.given(parts[0]), folds.given(parts[1])),
        )
    others = {
        code: Unlabelled(recorded([_text(prompt) for prompt in rows]), folds.known(rows))
        for code, rows in (unlabelled or {}).items()
        if rows and code not in labelled
    }
    found = fit(examples, others, miss=target_miss)
    at, known = found.chosen.site, model.provenance
    card = Card(
        model={
            "spec": known.spec,
            "digest": known.digest,
            "template_digest": known.template_digest,
            "architecture": known.architecture,
            "dtype": known.dtype,
            "thinking": known.thinking,
        },
        method=at.method,
        position=places[at.position],
        layer=layers[at.layer],
        slope=found.slope,
        intercept=found.intercept,
        target_miss=target_miss,
        fit_languages=tuple(labelled),
        domains=_domains(labelled),
        calibrations=found.calibrations,
        validation={
            "auc": found.chosen.auc,
            "separation": found.chosen.separation,
            "detectors_tried": found.tried,
            "layers_read": list(layers),
            "end_marks": "mixed" if mixing else "as they are",
        },
    )
    return found.weight.astype(np.float32), card


def layers_of(n_layers: int) -> tuple[int, ...]:
    """The layers that are tried: all but the first, MOST_LAYERS of them at most, evenly spaced (memory grows with them)."""
    first = min(1, n_layers - 1)
    return tuple(sorted({round(value) for value in np.linspace(first, n_layers - 1, min(MOST_LAYERS, n_layers))}))


class _Folds:
    """Folds of the prompts that are fitted on; a prompt and its translations, which share its id, are in one."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}

    def given(self, prompts: Sequence[str | Prompt]) -> Int[np.ndarray, " prompt"]:
        """The folds of fit prompts, new ones in turn."""
        return np.array([self._of.setdefault(_key(prompt), len(self._of) % FOLDS) for prompt in prompts], int)

    def known(self, prompts: Sequence[str | Prompt]) -> Int[np.ndarray, " prompt"]:
        """The folds of other prompts; -1 where nothing like it is fitted on."""
        return np.array([self._of.get(_key(prompt), -1) for prompt in prompts], int)


def _key(prompt: str | Prompt) -> str:
    return f"text\0{prompt}" if isinstance(prompt, str) else f"id\0{prompt.prompt_set}\0{prompt.prompt_id}"


def _without_third(part: list[str | Prompt]) -> list[str | Prompt]:
    return [prompt for index, prompt in enumerate(part) if index % 3]


def _text(prompt: str | Prompt) -> str:
    return prompt if isinstance(prompt, str) else prompt.text


def _domains(labelled: Labelled) -> tuple[str, ...]:
    sets = {
        prompt.prompt_set if isinstance(prompt, Prompt) else "texts"
        for pair in labelled.values()
        for part in pair
        for prompt in part
    }
    return tuple(sorted(sets))
