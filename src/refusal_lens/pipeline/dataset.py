"""The prompts of one audit: which languages and splits, from PolyRefuse, a user's file or the testbed; what is missing.

Selection prompts (train, val) are sampled by `prompt_id` with the audit's seed, so that every language draws the same
instructions; test prompts are the first `limit` in file order. An id that stands in a selection split never tests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from refusal_lens.config import AuditConfig
from refusal_lens.errors import DataError, MissingCell, UserError
from refusal_lens.model import LensModel, too_long
from refusal_lens.pipeline.served import SERVED
from refusal_lens.prompts import PromptTable, load_prompt_table, load_prompts, sample, without_overlap
from refusal_lens.types import HARMS, Harm, Prompt, Split

TESTBED = "testbed:"


@dataclass(frozen=True)
class Missing:
    """A cell that the prompt source does not have, and why; reported, never silent."""

    language: str
    split: Split
    harm: Harm
    prompt_set: str
    why: str


@dataclass(frozen=True)
class Dataset:
    """Prompts by task name: `LANG.select` (train and val) and `LANG.test`, `LANG.test-SET` for further sets.

    `notes` say in sentences what was read from a user's file and what was decided for them.
    """

    parts: dict[str, tuple[Prompt, ...]]
    missing: tuple[Missing, ...]
    notes: tuple[str, ...] = ()

    def without(self, unfit: Mapping[str, Collection[int]], why: str) -> Dataset:
        """The dataset less some prompts, which are named as missing.

        Args:
            unfit: Per part, the indices of the prompts to leave out.
            why: What is wrong with them.

        Returns:
            A new dataset.
        """
        parts = dict(self.parts)
        named = list(self.missing)
        for part, indices in unfit.items():
            parts[part] = tuple(prompt for index, prompt in enumerate(parts[part]) if index not in indices)
            left_out = [self.parts[part][index] for index in sorted(indices)]
            named += [
                Missing(
                    item.language, item.split, item.harm, item.prompt_set, f"prompt {item.prompt_id} {why}: left out"
                )
                for item in left_out
            ]
        return Dataset(parts, tuple(named), self.notes)

    def digest(self, part: str) -> str:
        """SHA-256 over the part's prompts, in order."""
        return digest_of(self.parts[part])

    def count(self, part: str, harm: Harm) -> int:
        """How many prompts of one class a part holds."""
        return sum(prompt.harm == harm for prompt in self.parts.get(part, ()))


def digest_of(prompts: Iterable[Prompt]) -> str:
    """SHA-256 over prompts, in order."""
    hasher = hashlib.sha256()
    for prompt in prompts:
        hasher.update(json.dumps(asdict(prompt), sort_keys=True, ensure_ascii=True).encode())
        hasher.update(b"\n")
    return hasher.hexdigest()


def test_part(language: str, prompt_set: str | None = None) -> str:
    """Name of the part that holds a language's test prompts, of the main set or of a further one."""
    return f"{language}.test" if prompt_set is None else f"{language}.test-{prompt_set}"


ASKED = ("languages",)
"""What counts as asked for by name unless the caller knows better."""


def load_dataset(config: AuditConfig, *, asked: Collection[str] = ASKED, model: LensModel | None = None) -> Dataset:
    """Load every prompt an audit needs.

    Args:
        config: The audit.
        asked: Settings that a user gave by name, so that what they ask for must be there. `n_train`, `n_val`: so many
            selection prompts in every source language; of a default number what is there is used, and a shortage named.
            `languages`: some prompt in each of them; of "all languages" those without any are named as missing.
        model: The model, where it is loaded already; else its files say what fits its context.

    Returns:
        The prompts by part, and the cells that are missing.

    Raises:
        UserError: No prompt source is named for a model that is not a testbed.
        DataError: A source language lacks its selection prompts or has fewer than asked, an asked language has no prompt, or
            no test prompt is left at all.
    """
    reader = _Reader(config, asked)
    parts: dict[str, tuple[Prompt, ...]] = {}
    for language in sorted({*config.data.languages, *config.directions.sources}):
        selection = reader.selection(language)
        if language in config.directions.sources and not config.baseline_only:
            for harm in HARMS:
                if not any(prompt.harm == harm for prompt in selection):
                    raise DataError(reader.no_selection(language, harm))
        parts[f"{language}.select"] = selection
    selected = [prompt for prompts in parts.values() for prompt in prompts]
    if config.baseline_only:  # read all the same: what a whole audit selects with is no test prompt here either
        parts.clear()
        reader.missing.clear()
    for language in config.data.languages:
        for prompt_set in (None, *config.data.prompt_sets):
            parts[test_part(language, prompt_set)] = reader.test(language, prompt_set, selected)
    if "languages" in asked:
        _check_languages(config, parts, reader.source)
    if not any(prompts for name, prompts in parts.items() if ".test" in name):
        raise DataError(
            "no test prompts in any asked language: " + "; ".join(sorted({item.why for item in reader.missing}))
        )
    return _fitting(Dataset(parts, tuple(reader.missing), reader.notes()), config, model)


def all_languages(config: AuditConfig) -> tuple[str, ...]:
    """Target and source languages, sorted, each once; the targets alone where no direction is asked for."""
    if config.baseline_only:
        return tuple(sorted(set(config.data.languages)))
    return tuple(sorted({*config.data.languages, *config.directions.sources}))


def _check_languages(config: AuditConfig, parts: Mapping[str, Sequence[Prompt]], source: str) -> None:
    """Refuse languages that were asked for by name and have no prompt at all: their rows would silently be absent."""
    filled = {name.partition(".")[0] for name, prompts in parts.items() if prompts}
    absent = [language for language in config.data.languages if language not in filled]
    if absent:
        raise DataError(
            f"no prompt of any kind for {', '.join(absent)} in {source}: leave "
            f"{'it' if len(absent) == 1 else 'them'} out of --languages, or add prompts"
        )


def _fitting(dataset: Dataset, config: AuditConfig, model: LensModel | None) -> Dataset:
    """The prompts that fit the model's context; the others are named and left out."""
    wanted = config.model
    if wanted.spec.startswith(SERVED):
        return dataset  # a server rejects what it cannot hold
    texts = [
        (part, index, prompt.text) for part, prompts in dataset.parts.items() for index, prompt in enumerate(prompts)
    ]
    unfit: dict[str, set[int]] = {}
    instructions = [text for _, _, text in texts]
    if model is not None:
        rows = model.too_long(instructions)
    else:
        rows = too_long(
            wanted.spec,
            instructions,
            revision=wanted.revision,
            chat_template=Path(wanted.chat_template) if wanted.chat_template else None,
            thinking=wanted.thinking,
            trust_remote_code=wanted.trust_remote_code,
        )
    for row in rows:
        part, index, _ = texts[row]
        unfit.setdefault(part, set()).add(index)
    return dataset.without(unfit, "is longer than the model's context")


class _Reader:
    def __init__(self, config: AuditConfig, asked: Collection[str]) -> None:
        self._config = config
        self._asked = asked
        self.missing: list[Missing] = []
        data, directions = config.data, config.directions
        self._table: PromptTable | None = None
        if data.root is not None and data.prompts is not None:
            raise UserError(f"--data {data.root} and --prompts {data.prompts}: give one of them")
        if data.columns and data.prompts is None:
            raise UserError("columns are named, but no file of prompts: give --prompts FILE")
        if data.root is None and data.prompts is None and not config.model.spec.startswith(TESTBED):
            raise UserError(
                f"no prompts for {config.model.spec!r}: pass --data DIR with the PolyRefuse files "
                "(get them with `refusal-lens data download --dest DIR`) or --prompts FILE with your own; only testbed "
                "models bring theirs"
            )
        if data.prompts is not None:
            self._table = load_prompt_table(
                data.prompts,
                columns=data.columns,
                languages=all_languages(config),
                seed=config.seed,
                n_train=directions.n_train,
                n_val=directions.n_val,
            )
        self.source = data.prompts or data.root or "the testbed"

    def notes(self) -> tuple[str, ...]:
        """What a user's file was read as, and what of it is not used."""
        if self._table is None:
            return ()
        unused = sorted(set(self._table.languages) - set(all_languages(self._config)))
        left = [f"{self._table.file}: not asked for and not used: {', '.join(unused)}"] if unused else []
        kept = sum(prompt.split != "test" for prompt in self._table.prompts)
        if self._config.baseline_only and kept:
            left.append(f"{kept} train and val prompts are left to a whole audit; `test` in a column split asks all")
        if self._config.model.spec.startswith(TESTBED):
            left.append(
                f"{self._config.model.spec} knows prompts of its own kind alone: what it says to others means nothing"
            )
        return (self._table.summary(), *self._table.notes, *left)

    def no_selection(self, language: str, harm: Harm) -> str:
        """Why a source language cannot have a direction, and what to do."""
        if self._table is None:
            return (
                f"source language {language!r} has no {harm} train or val prompts: choose another source, or add them to "
                f"{self.source}"
            )
        there = {prompt.harm for prompt in self._table.prompts if prompt.language == language}
        # A class that is absent altogether is named before one that merely lacks a split.
        lacking = next((kind for kind in HARMS if kind not in there), harm)
        return (
            f"source language {language!r} has no {lacking} train or val prompts: a direction is the difference between "
            f"harmful and harmless prompts. Add {lacking} rows to {self.source} (where it has no column split, splits are "
            "made), choose another source, or measure the untouched model alone with --baseline-only"
        )

    def selection(self, language: str) -> tuple[Prompt, ...]:
        choice = self._config.directions
        wanted: dict[Split, int] = {"train": choice.n_train, "val": choice.n_val}
        drawn: list[Prompt] = []
        for split, count in wanted.items():
            for harm in HARMS:
                found = self._cell(language, split, harm, None)
                if 0 < len(found) < count:
                    self._note_shortage(found, count)
                drawn.extend(sample(found, n=min(count, len(found)), seed=self._config.seed))
        return tuple(drawn)

    def _note_shortage(self, found: Sequence[Prompt], count: int) -> None:
        language, split, harm = found[0].language, found[0].split, found[0].harm
        if (
            f"n_{split}" in self._asked
            and not self._config.baseline_only
            and language in self._config.directions.sources
        ):
            raise DataError(
                f"{count} {split} prompts per class were asked for, {language} has {len(found)} {harm} ones: "
                f"give --n-{split} {len(found)} or less"
            )
        why = f"only {len(found)} of {count} prompts: all are used"
        from refusal_lens.directions.tokens import FEWEST_REFUSALS  # brings torch

        if split == "train" and harm == "harmful" and len(found) < FEWEST_REFUSALS:
            why += f"; a direction needs at least {FEWEST_REFUSALS} that the model refuses"
        self.missing.append(Missing(language, split, harm, found[0].prompt_set, why))

    def test(self, language: str, prompt_set: str | None, selected: Sequence[Prompt]) -> tuple[Prompt, ...]:
        chosen: list[Prompt] = []
        for harm in HARMS:
            found, overlapping = without_overlap(self._cell(language, "test", harm, prompt_set), selected)
            chosen.extend(found[: self._config.data.limit])
            if overlapping:
                why = f"{len(overlapping)} test prompts also stand among the selection prompts: left out"
                self.missing.append(Missing(language, "test", harm, overlapping[0].prompt_set, why))
        return tuple(chosen)

    def _cell(self, language: str, split: Split, harm: Harm, prompt_set: str | None) -> list[Prompt]:
        root = self._config.data.root
        try:
            if self._table is not None:
                return self._table.cell(language, split, harm, prompt_set)
            if root is None:
                from refusal_lens import testbed

                return testbed.load_prompts(language=language, split=split, harm=harm)
            if prompt_set is None:
                return load_prompts(Path(root), language=language, split=split, harm=harm)
            return load_prompts(Path(root), language=language, split=split, harm=harm, prompt_set=prompt_set)
        except MissingCell as error:
            main = self._table.main_set if self._table else "testbed" if root is None else "polyrefuse"
            name = prompt_set or main
            self.missing.append(Missing(language, split, harm, name, str(error)))
            return []
