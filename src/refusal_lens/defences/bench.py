"""The bench: every defence under every named attacker, in every language, harmful and harmless prompts alike.

1. A subject is a model with what is done while it answers: nothing, a gate or a map, or merged weights.
2. A cell is one subject under one attacker. It answers all test prompts of all languages in one call and keeps the verdicts,
   never the answers; each cell is a file of the run, so that an interrupted bench goes on where it stopped.
3. What an attacker reaches without the defence is not computed twice: whoever takes a gate off has the undefended model, and
   its folded weights are its ablation (`generate` folds an ablation wherever that is exact).
4. KL and loss are taken on the untouched model's answers to harmless test prompts, prompt and answer given; overhead is the
   time that the defence adds to reading a batch of prompts (CPU time on a CPU).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor

from refusal_lens.core.files import make_folder, write_atomic
from refusal_lens.core.json_files import pretty_json, read_object
from refusal_lens.defences.attackers import (
    ACTIVATION,
    PROMPT_ONLY,
    Attack,
    Defend,
    Place,
    ablation_of,
    attacker_direction,
    framed,
    own_directions,
)
from refusal_lens.defences.bench_rows import UNDEFENDED, BenchCell
from refusal_lens.defences.damage import Text, text_damage, texts_of
from refusal_lens.defences.face import Defence
from refusal_lens.defences.prompts import DefencePrompts
from refusal_lens.defences.reading import answered
from refusal_lens.errors import RunError
from refusal_lens.model import Intervention, LensModel, next_token_logits
from refusal_lens.types import JsonValue, Prompt

Kind: TypeAlias = Literal["undefended", "runtime", "hardened", "null"]
ATTACKS_OF: Mapping[Kind, tuple[Attack, ...]] = {
    "undefended": ("none", *PROMPT_ONLY, *ACTIVATION, "folded"),
    "runtime": ("none", *PROMPT_ONLY, *ACTIVATION, "folded", "removed"),
    "hardened": ("none", *PROMPT_ONLY, *ACTIVATION, "folded", "attenuated", "removed"),
    "null": ("none",),
}
TIMED_PROMPTS, REPEATS = 32, 3


@dataclass(frozen=True)
class Subject:
    """Something that is attacked.

    Attributes:
        name: In the tables.
        kind: What it is, which decides what an attacker can do to it.
        model: The model that answers.
        defence: What acts besides, of a gate or a map.
        attenuated: The model with the adapter at half its size, of hardened weights.
    """

    name: str
    kind: Kind
    model: LensModel
    defence: Defence | None = None
    attenuated: Callable[[], LensModel] | None = None

    def defend(self, texts: Sequence[str], under: Sequence[Intervention]) -> list[Intervention]:
        """What it does while these prompts are answered."""
        return [] if self.defence is None else [self.defence.intervene(self.model, texts, under=under)]

    def flags(self, texts: Sequence[str], languages: Sequence[str], under: Sequence[Intervention]) -> list[bool | None]:
        """Which of them it takes for harmful; None without a gate."""
        if self.defence is None:
            return [None] * len(texts)
        return self.defence.flags(self.model, texts, languages, under=under)


class Bench:
    """One bench on one model, its cells in a folder."""

    def __init__(
        self, model: LensModel, prompts: DefencePrompts, *, run: Path, fit_language: str, tokens: int, texts: int
    ) -> None:
        """Compute nothing yet.

        Args:
            model: The undefended model.
            prompts: Selection and test prompts.
            run: Folder of the run.
            fit_language: Language of the attacker's "English" direction: the first fit language.
            tokens: Length limit of an answer.
            texts: Harmless answers of a language on which KL and loss are taken.
        """
        self.model, self.prompts, self.run = model, prompts, run
        self.fit_language, self.tokens, self.texts = fit_language, tokens, texts
        self.items: list[Prompt] = [item for part in prompts.test.values() for item in part]
        self._found: dict[str, Place] = {}
        self._overheads: dict[str, float] = {}
        make_folder(run / "cells", mode=0o700)

    def cell(self, subject: Subject, attack: Attack) -> BenchCell:
        """One cell, from its file where it is done.

        Args:
            subject: The defence.
            attack: The attacker, one of `ATTACKS_OF` its kind.

        Returns:
            The cell.
        """
        file = self.run / "cells" / f"{subject.name.replace(':', '_')}.{attack}.json"
        if file.exists():
            return _read_cell(file)
        cell = self._compute(subject, attack)
        content = {
            "defence": cell.defence,
            "attack": cell.attack,
            "labels": [[*key, label] for key, label in cell.labels.items()],
            "kl": dict(cell.kl),
            "loss": dict(cell.loss),
            "overhead": cell.overhead,
            "flags": [[*key, flag] for key, flag in cell.flags.items()],
        }
        write_atomic(file, json.dumps(content).encode())
        return cell

    def _compute(self, subject: Subject, attack: Attack) -> BenchCell:
        gone = attack == "removed" or (attack == "folded" and subject.kind == "runtime")  # the undefended model is left
        same = subject.kind == "undefended" and attack in (
            "ablate-reextracted",
            "folded",
        )  # one ablation, told three ways
        if gone or same:
            source = self.cell(self._undefended, "ablate-english")
            return BenchCell(subject.name, attack, source.labels, source.kl, source.loss, 0.0)
        if attack == "attenuated":
            assert subject.attenuated is not None, "hardened weights can be attenuated"
            half = Subject(subject.name, "hardened", subject.attenuated())
            return self._answer(half, attack, overhead=0.0)
        return self._answer(subject, attack, overhead=self._overhead(subject))

    @cached_property
    def _undefended(self) -> Subject:
        return Subject(UNDEFENDED, "undefended", self.model)

    def _answer(self, subject: Subject, attack: Attack, *, overhead: float) -> BenchCell:
        texts = framed(attack, self.items, self._parallel)
        long = set(subject.model.too_long([text or "" for text in texts]))
        rows = [row for row, text in enumerate(texts) if text is not None and row not in long]
        asked = [cast("str", texts[row]) for row in rows]
        languages = [self.items[row].language for row in rows]
        attacking = self._attacking(subject, attack, languages)
        acting = [*attacking, *subject.defend(asked, attacking)]
        labels = answered(subject.model, asked, languages, interventions=acting, tokens=self.tokens)
        keys = [(self.items[row].language, self.items[row].harm, self.items[row].prompt_id) for row in rows]
        flags = subject.flags(asked, languages, attacking)
        kl: dict[str, float] = {}
        loss: dict[str, float] = {}
        if attack not in PROMPT_ONLY:
            for language, part in self._texts.items():
                under = self._attacking(subject, attack, [language] * len(part))
                acting = [*under, *subject.defend([item.instruction for item in part], under)]
                kl[language], loss[language] = text_damage(self.model, subject.model, part, acting)
        opened = {key: flag for key, flag in zip(keys, flags, strict=True) if flag is not None}
        return BenchCell(
            subject.name, attack, dict(zip(keys, labels, strict=True)), kl, loss, overhead=overhead, flags=opened
        )

    def _attacking(self, subject: Subject, attack: Attack, languages: Sequence[str]) -> list[Intervention]:
        if attack in ("ablate-english", "ablate-own"):
            return [ablation_of(attack, languages, self._english.vector, self._own)]
        if attack == "ablate-reextracted" or (attack == "folded" and subject.kind == "hardened"):
            return [ablation_of(attack, languages, self._reextracted(subject).vector, {})]
        if attack in ("folded", "attenuated"):
            return [ablation_of(attack, languages, self._english.vector, {})]
        return []

    @property
    def _english(self) -> Place:
        return self._reextracted(self._undefended)

    @cached_property
    def _own(self) -> dict[str, Tensor]:
        return own_directions(self.model, self._english, {**self.prompts.selection})

    def _reextracted(self, subject: Subject) -> Place:
        """The attacker's direction with this defence on; found once a process, never written."""
        if subject.name not in self._found:
            selection = self.prompts.selection[self.fit_language]
            defend: Defend = subject.defend
            self._found[subject.name] = attacker_direction(
                subject.model, selection, defend, language=self.fit_language, tokens=min(self.tokens, 32)
            )
        return self._found[subject.name]

    @cached_property
    def _parallel(self) -> dict[tuple[str, str], str]:
        """Texts by prompt id and language, for an attacker who switches language in the middle."""
        known = {(item.prompt_id, item.language): item.text for item in self.items}
        english = {(item.prompt_id, "en"): item.english for item in self.items if item.english is not None}
        return {**english, **known}

    @cached_property
    def _texts(self) -> dict[str, list[Text]]:
        calm: dict[str, list[Prompt]] = {}
        for item in self.items:
            if item.harm == "harmless" and len(calm.setdefault(item.language, [])) < self.texts:
                calm[item.language].append(item)
        return texts_of(self.model, calm)

    def _overhead(self, subject: Subject) -> float:
        """Time that the defence adds to reading prompts, as a share of reading them; the least of some repeats of each."""
        if subject.kind in ("undefended", "hardened"):  # merged weights are weights
            return 0.0
        if subject.name in self._overheads:
            return self._overheads[subject.name]
        texts = [item.text for item in self.items if item.harm == "harmless"][:TIMED_PROMPTS]
        plain = min(
            _seconds(self.model, lambda: next_token_logits(self.model, texts, batch_size=len(texts)))
            for _ in range(REPEATS)
        )
        defended = min(
            _seconds(
                self.model,
                lambda: next_token_logits(
                    subject.model, texts, interventions=subject.defend(texts, []), batch_size=len(texts)
                ),
            )
            for _ in range(REPEATS)
        )
        self._overheads[subject.name] = defended / plain - 1
        return self._overheads[subject.name]


def _seconds(model: LensModel, work: Callable[[], Tensor]) -> float:
    clock = time.process_time if model.device.type == "cpu" else time.perf_counter
    before = clock()
    work()
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return clock() - before


def _read_cell(file: Path) -> BenchCell:
    found = read_object(file, advice="delete it and run the bench again")
    labels = cast("list[tuple[str, str, str, str]]", found["labels"])
    flags = cast("list[tuple[str, str, str, bool]]", found["flags"])
    return BenchCell(
        str(found["defence"]),
        str(found["attack"]),
        {(language, harm, prompt_id): label for language, harm, prompt_id, label in labels},
        cast("dict[str, float]", found["kl"]),
        cast("dict[str, float]", found["loss"]),
        cast("float | None", found["overhead"]),
        {(language, harm, prompt_id): flag for language, harm, prompt_id, flag in flags},
    )


def write_settings(run: Path, settings: dict[str, JsonValue], *, replace: bool) -> bool:
    """Write what the bench is of; whether an earlier one of the same is there to go on with.

    Args:
        run: Folder of the run.
        settings: Everything that decides a cell.
        replace: Take over the folder of another bench: its cells are deleted.

    Returns:
        True where cells of the same bench can be used.

    Raises:
        RunError: Another bench is there.
    """
    file = run / "bench.json"
    if file.exists():
        if read_object(file, error=RunError) == json.loads(json.dumps(settings)):
            return True
        if not replace:
            raise RunError(f"{run} holds a bench with other settings: name another folder, or give --replace")
        for folder in ("cells", "defences"):
            for old in sorted((run / folder).rglob("*"), reverse=True):
                if old.is_file():
                    old.unlink()
    elif run.exists() and any(run.iterdir()):
        raise RunError(f"{run} is not empty and holds no bench: name another folder")
    make_folder(run)
    write_atomic(file, pretty_json(settings), mode=0o644)
    return False
