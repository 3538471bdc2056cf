"""The prompts of a defence: labelled ones to fit on, unlabelled ones of every language, and test prompts kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refusal_lens.config import AuditConfig, DataConfig, DirectionConfig, ModelConfig
from refusal_lens.defences.face import FitData
from refusal_lens.errors import UserError
from refusal_lens.model import LensModel
from refusal_lens.pipeline.dataset import digest_of, load_dataset
from refusal_lens.types import Prompt

N_TRAIN, N_VAL = 128, 32


@dataclass(frozen=True)
class DefencePrompts:
    """What a defence is fitted on and measured with.

    Attributes:
        fit: Labelled prompts of the fit languages; unlabelled ones of all.
        selection: Labelled train and validation prompts of every language: what an attacker extracts directions from.
        test: Test prompts of every language, both classes.
        notes: What is missing or was decided, in sentences.
    """

    fit: FitData
    selection: dict[str, tuple[Prompt, ...]]
    test: dict[str, tuple[Prompt, ...]]
    notes: tuple[str, ...]

    def digest(self) -> str:
        """SHA-256 of all of them."""
        parts = (*self.selection.values(), *self.test.values())
        return digest_of(item for part in parts for item in part)


def load_defence_prompts(
    model: LensModel,
    *,
    languages: Sequence[str],
    fit_languages: Sequence[str],
    data: str | None = None,
    prompts: str | None = None,
    columns: dict[str, str] | None = None,
    n: int | None = None,
    seed: int = 0,
    asked: bool = False,
) -> DefencePrompts:
    """Load the prompts of a defence from the source an audit has.

    Args:
        model: The model; a testbed brings its own prompts.
        languages: Languages to serve.
        fit_languages: Languages whose labels may be used.
        data: PolyRefuse folder.
        prompts: A file of one's own.
        columns: Its columns with other names.
        n: Test prompts per language and class; None for all.
        seed: Seed of sampling.
        asked: The languages were asked for by name, so each must be there.

    Returns:
        The prompts. The unlabelled ones are the train prompts of each language, both classes, in one list.

    Raises:
        UserError: There is no source, or a fit language lacks a class.
    """
    config = AuditConfig(
        model=ModelConfig(spec=model.provenance.spec),
        data=DataConfig(root=data, prompts=prompts, columns=columns or {}, languages=tuple(languages), limit=n),
        directions=DirectionConfig(sources=tuple(fit_languages), n_train=N_TRAIN, n_val=N_VAL),
        seed=seed,
    )
    dataset = load_dataset(config, asked=("languages",) if asked else (), model=model)
    selection = {name.removesuffix(".select"): part for name, part in dataset.parts.items() if name.endswith(".select")}
    labelled = [prompt for language in fit_languages for prompt in selection[language]]
    train, val = ([item for item in labelled if item.split == split] for split in ("train", "val"))
    if not val or not train:
        raise UserError(f"no train or no validation prompts in {', '.join(fit_languages)}; a defence is fitted on both")
    unlabelled = {
        language: [prompt.text for prompt in part if prompt.split == "train"] for language, part in selection.items()
    }
    test = {name.removesuffix(".test"): part for name, part in dataset.parts.items() if name.endswith(".test")}
    notes = (*dataset.notes, *(f"{item.language} {item.split} {item.harm}: {item.why}" for item in dataset.missing))
    return DefencePrompts(
        FitData(train, val, {name: texts for name, texts in unlabelled.items() if texts}), selection, test, notes
    )
