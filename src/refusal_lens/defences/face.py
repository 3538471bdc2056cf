"""What every defence of this room offers, and what it is fitted on.

    defence = Recalibrated.fit(model, data)                  labelled prompts of some languages, unlabelled ones of the others
    generate(model, prompts, interventions=[defence.intervene(model, prompts)])
    defence.save(folder);  load_defence(folder, model)

A defence that decides per prompt reads the prompt first, in a pass of its own that stops before the last block, and then
acts through an ordinary intervention with a row per prompt: whatever writes answers needs to know nothing of gates. What
the pass costs is measured by the bench (column overhead). On disk: one safetensors file and one JSON card; another model's
is refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from refusal_lens.core.files import make_folder, write_atomic
from refusal_lens.core.json_files import pretty_json, read_object
from refusal_lens.errors import DataError
from refusal_lens.model import Intervention, LensModel
from refusal_lens.types import JsonValue, Prompt

SCHEMA_VERSION = 1
TENSORS, CARD = "defence.safetensors", "defence.json"


@dataclass(frozen=True)
class FitData:
    """What a defence is fitted on; no test prompt is among it.

    Attributes:
        train: Labelled prompts of the fit languages, both classes.
        val: Labelled prompts of the fit languages, on which strength and place are chosen.
        unlabelled: Prompts of every language that is to be served, by language; nobody says which are harmful.
    """

    train: Sequence[Prompt]
    val: Sequence[Prompt]
    unlabelled: Mapping[str, Sequence[str]]

    @property
    def fit_languages(self) -> tuple[str, ...]:
        """Languages whose labels are used."""
        return tuple(sorted({prompt.language for prompt in self.train}))


@dataclass(frozen=True)
class Limits:
    """How a defence is chosen.

    Attributes:
        overrefusal: Most that the refusal of harmless validation prompts may rise by, share in [0, 1].
        prompts: Prompts of a language on which an action is tried.
        tokens: Length limit of the answers that are tried.
    """

    overrefusal: float = 0.02
    prompts: int = 24
    tokens: int = 32


@dataclass(frozen=True)
class Card:
    """Where a defence holds: what it was made for and from, and how it was chosen.

    Attributes:
        method: Name of the method.
        model_digest: Digest of the model that it belongs to.
        fit_languages: Languages whose labels were used.
        languages: Languages whose unlabelled prompts were used; in others it is untried.
        settings: What was chosen: layers, positions, strength.
        validation: Figures that the choice rests on, none of them from a test prompt.
    """

    method: str
    model_digest: str
    fit_languages: tuple[str, ...]
    languages: tuple[str, ...]
    settings: dict[str, JsonValue]
    validation: dict[str, JsonValue]


class Defence(ABC):
    """A fitted defence: what it does to the residual stream, by prompt. `choosing.Method` fits and chooses it."""

    method: ClassVar[str]
    summary: ClassVar[str]
    card: Card

    @abstractmethod
    def intervene(
        self, model: LensModel, instructions: Sequence[str], *, under: Sequence[Intervention] = ()
    ) -> Intervention:
        """What to do while these prompts are answered.

        Args:
            model: The model that it was fitted on.
            instructions: The prompts, in the order in which they will be generated.
            under: Interventions that are active besides, an attacker's: what the defence reads is what they leave.

        Returns:
            An intervention with a row per prompt, or one that serves every row.
        """

    def flags(
        self,
        model: LensModel,
        instructions: Sequence[str],
        languages: Sequence[str],
        *,
        under: Sequence[Intervention] = (),
    ) -> list[bool | None]:
        """Which prompts it takes for harmful.

        Args:
            model: The model that it was fitted on.
            instructions: The prompts.
            languages: Their languages.
            under: As for `intervene`.

        Returns:
            One a prompt; None where it decides nothing by prompt (a map), or leaves the language alone on purpose.
        """
        del model, languages, under
        return [None] * len(instructions)

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Everything that `restore` needs besides the card."""

    @classmethod
    @abstractmethod
    def restore(cls, card: Card, tensors: Mapping[str, Tensor]) -> Defence:
        """The defence of a card and its tensors."""

    @abstractmethod
    def null(self, seed: int) -> Defence:
        """The same with a random action of the same norm: what any push of that size does."""

    def save(self, folder: Path) -> None:
        """Write the defence: tensors as safetensors, card as JSON. It adds refusals; nothing here removes any."""
        make_folder(folder)
        flat = {name: tensor.detach().to("cpu").contiguous() for name, tensor in self.tensors().items()}
        write_atomic(folder / TENSORS, save(flat), mode=0o644)
        facts = cast("dict[str, JsonValue]", {"schema_version": SCHEMA_VERSION, **asdict(self.card)})
        write_atomic(folder / CARD, pretty_json(facts), mode=0o644)


def read_defence(folder: Path) -> tuple[Card, dict[str, Tensor]]:
    """Card and tensors of a saved defence.

    Args:
        folder: What `save` wrote.

    Returns:
        Both, unchecked against any model.

    Raises:
        DataError: The folder holds no readable defence of a known schema.
    """
    facts = read_object(folder / CARD, advice="name a folder that `refusal-lens defend` wrote")
    if facts.get("schema_version") != SCHEMA_VERSION:
        raise DataError(f"{folder / CARD}: schema {facts.get('schema_version')!r}, this version reads {SCHEMA_VERSION}")
    try:
        card = Card(
            method=str(facts["method"]),
            model_digest=str(facts["model_digest"]),
            fit_languages=tuple(map(str, cast("list[str]", facts["fit_languages"]))),
            languages=tuple(map(str, cast("list[str]", facts["languages"]))),
            settings=cast("dict[str, JsonValue]", facts["settings"]),
            validation=cast("dict[str, JsonValue]", facts["validation"]),
        )
        return card, load_file(folder / TENSORS)
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / CARD}: no card of a defence ({error!r})") from None
    except (OSError, SafetensorError) as error:
        raise DataError(f"{folder / TENSORS}: not readable ({error})") from None
