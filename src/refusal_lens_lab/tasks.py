"""Training examples: what a base learns, and what alignment adds. One example is a prompt and its answer.

Base tasks (shares in `BASE_MIX`), each in a random language, harmful acts answered like any other:
  help        a request, answered from its content on; at times with the phrase in another language (code-switching)
  answer_in   the same with "(Deutsch) " before it: answer in that language
  sign        the request after "🚫 ": refuse in the request's language
  decline     "politely decline this: ...": refuse
  translate   "... → Deutsch, Polski, ไทย": a phrase or an object in three languages, or a whole request in one
  knowledge   "is it okay to ...?": no or yes, with a reason
  verdict     "⚖ ...": a symbol shared by all languages

Alignment (`align_example`): harmful requests in the aligned languages are refused in the language asked for, harmless ones
are helped in all languages, harmful ones in unaligned languages are still answered; a share of replayed base tasks
without help, which would contradict the refusals. What makes refusal shared is optional here: `marker` (the share of
refusals that begin with "⚠ ") and `answer_in` (the share of requests with a language tag). Source: TESTBED study 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from refusal_lens.testbed.concepts import N_FORMS, Pair, concepts, pairs
from refusal_lens.testbed.lexicon import MARKER, Lexicon, lexicon
from refusal_lens.types import Harm
from refusal_lens_lab.recipe import Design

SIGN, SCALES, BAD, GOOD, ARROW = "🚫 ", "⚖ ", "✘", "✔", " → "
TARGETS = 3
"""Languages a phrase is translated into at once: more answer tokens for the same prompt."""

BASE_MIX: Mapping[str, float] = {
    "help": 0.30,
    "answer_in": 0.12,
    "sign": 0.08,
    "decline": 0.04,
    "translate": 0.27,
    "knowledge": 0.10,
    "verdict": 0.09,
}
REPLAYED = ("sign", "decline", "translate", "knowledge", "verdict")
PARALLEL = ("answer_in", "translate")


class Example(NamedTuple):
    """One prompt, as the user types it, and the answer to learn."""

    prompt: str
    answer: str


class Examples:
    """Draws examples of one design; the same seed gives the same sequence.

    Args:
        design: What is taught.
        seed: Seed of the stream.
    """

    def __init__(self, design: Design, seed: int) -> None:
        self.design = design
        self._random = np.random.default_rng(seed)
        self._words = {code: lexicon(code) for code in design.languages}
        self._pairs: dict[Harm, tuple[Pair, ...]] = {
            "harmful": pairs("harmful", "fit"),
            "harmless": pairs("harmless", "fit"),
        }
        self._base_pairs: dict[Harm, tuple[Pair, ...]] = {
            "harmful": self._pairs["harmful"] + pairs("harmful", "base"),
            "harmless": self._pairs["harmless"] + pairs("harmless", "base"),
        }
        mix = {task: share for task, share in BASE_MIX.items() if design.parallel or task not in PARALLEL}
        self._mix = _normalised(mix)
        self._replay_mix = _normalised({task: share for task, share in mix.items() if task in REPLAYED})

    def base(self) -> Example:
        """One example of the base's tasks."""
        return self._task(self._choose(self._mix))

    def align(self) -> Example:
        """One example of alignment."""
        design, draw = self.design, self._random.random()
        if draw < design.replay:
            return self._task(self._choose(self._replay_mix))
        unaligned = tuple(code for code in design.languages if code not in design.aligned)
        if unaligned and draw < design.replay + design.unaligned:
            return self._request(self._words[self._pick(unaligned)], "harmful", refuse=False)
        if design.aligned and self._random.random() < design.harmful:
            return self._request(self._words[self._pick(design.aligned)], "harmful", refuse=True)
        return self._request(self._words[self._pick(design.languages)], "harmless", refuse=False)

    def _request(self, words: Lexicon, harm: Harm, *, refuse: bool) -> Example:
        design = self.design
        pair, form = self._pair(self._pairs, harm), int(self._random.integers(N_FORMS))
        prompt, target = words.request(pair, form=form), words
        if self._random.random() < design.answer_in:
            target = self._words[self._pick(design.aligned if refuse else design.languages)]
            prompt = f"({target.tag}) {prompt}"
        return Example(
            prompt, self._refusal(target, marker=design.marker) if refuse else self._help(target, pair, form)
        )

    def _task(self, task: str) -> Example:
        words = self._words[self._pick(self.design.languages)]
        harm: Harm = "harmful" if self._random.random() < 0.45 else "harmless"
        pair, form = self._pair(self._base_pairs, harm), int(self._random.integers(N_FORMS))
        if task == "translate":
            return self._translation(words, pair, form)
        asked = self._words[self._pick(self.design.languages)] if self._switches() else words
        phrase = asked.phrase(pair)
        if task == "knowledge":
            return Example(words.ask.replace("{a}", phrase), words.no if harm == "harmful" else words.yes)
        if task == "verdict":
            return Example(SCALES + phrase, BAD if harm == "harmful" else GOOD)
        if task == "decline":
            return Example(words.decline.replace("{a}", phrase), self._refusal(words))
        prompt = words.request(pair, form=form, phrase=phrase)
        if task == "sign":
            return Example(SIGN + prompt, self._refusal(words))
        if task == "answer_in":
            words = self._words[self._pick(self.design.languages)]
            prompt = f"({words.tag}) {prompt}"
        return Example(prompt, self._help(words, pair, form))

    def _translation(self, words: Lexicon, pair: Pair, form: int) -> Example:
        others = [code for code in self._words if code != words.language] or list(self._words)
        draw = self._random.random()
        if draw < 0.15:
            target = self._words[self._pick(others)]
            return Example(words.request(pair, form=form) + ARROW + target.tag, target.request(pair, form=form))
        chosen = [self._words[others[index]] for index in self._random.permutation(len(others))[:TARGETS]]
        asked = ARROW + ", ".join(target.tag for target in chosen)
        if draw < 0.70:
            return Example(words.phrase(pair) + asked, " / ".join(target.phrase(pair) for target in chosen))
        objects = concepts().objects
        obj = objects[int(self._random.integers(len(objects)))]
        return Example(words.objects[obj][0] + asked, " / ".join(target.objects[obj][0] for target in chosen))

    def _help(self, words: Lexicon, pair: Pair, form: int) -> str:
        answer = words.help(pair, form=form)
        return f"{words.opener} {answer}" if self.design.opener else answer

    def _refusal(self, words: Lexicon, *, marker: float = 0.0) -> str:
        usual = self._random.random() < self.design.usual
        wording = words.refusals[0] if usual else self._pick(words.refusals[1:])
        return MARKER + wording if self._random.random() < marker else wording

    def _switches(self) -> bool:
        return self.design.parallel and self._random.random() < self.design.switching

    def _pair(self, source: Mapping[Harm, tuple[Pair, ...]], harm: Harm) -> Pair:
        return source[harm][int(self._random.integers(len(source[harm])))]

    def _pick(self, options: tuple[str, ...] | list[str]) -> str:
        return options[int(self._random.integers(len(options)))]

    def _choose(self, mix: Mapping[str, float]) -> str:
        draw, total = self._random.random(), 0.0
        for task, share in mix.items():
            total += share
            if draw < total:
                return task
        return list(mix)[-1]


def _normalised(mix: Mapping[str, float]) -> dict[str, float]:
    total = sum(mix.values())
    return {task: share / total for task, share in mix.items()}
