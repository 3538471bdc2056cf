"""What the `monitor` commands read: the model or run they are given, its prompts by language and class, a user's rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from refusal_lens.errors import DataError, UserError
from refusal_lens.types import JsonValue

if TYPE_CHECKING:
    from refusal_lens.config import AuditConfig
    from refusal_lens.model import LensModel
    from refusal_lens.monitor import Chat, Monitor
    from refusal_lens.pipeline.dataset import Dataset
    from refusal_lens.types import Harm, Prompt, Split

COLUMNS = ("text", "prompt", "instruction_translated", "instruction", "goal", "behavior", "question", "content")
CHATS = ("messages", "chat", "conversation")
LANGUAGES = ("language", "lang")


@dataclass(frozen=True)
class UserRow:
    """A row of a user's file: its fields as they stand there, and what a monitor reads of it."""

    fields: Mapping[str, JsonValue]
    prompt: str | Chat
    language: str | None


@dataclass(frozen=True)
class Given:
    """A model and its prompts, as the options name them."""

    config: AuditConfig
    model: LensModel
    dataset: Dataset

    def prompts(self, part: str, harm: Harm | None = None, split: Split | None = None) -> list[Prompt]:
        """Prompts of a part of the dataset, of one class and split where asked."""
        rows = self.dataset.parts.get(part, ())
        return [row for row in rows if harm in (None, row.harm) and split in (None, row.split)]

    @property
    def languages(self) -> tuple[str, ...]:
        """Every language that has a prompt, sources first."""
        named = (*self.config.directions.sources, *self.config.data.languages)
        return tuple(code for code in dict.fromkeys(named) if self.prompts(f"{code}.select"))


def open_given(
    model_or_run: str,
    *,
    fit_languages: str,
    languages: str | None,
    data: Path | None,
    prompts: Path | None,
    column: list[str] | None,
    sets: str | None = None,
    n_train: int | None = None,
    n_val: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str | None = None,
    thinking: str | None = None,
) -> Given:
    """Load a model and its prompts, both from a run's own configuration where a run is named.

    Args:
        model_or_run: A model's name or a run directory.
        fit_languages: Languages whose labels are read.
        languages: All languages; None for every one there is.
        data: Folder of PolyRefuse files.
        prompts: A file of the user's own.
        column: Its columns with other names.
        sets: Further test sets.
        n_train: Train prompts per class.
        n_val: Validation prompts per class.
        limit: Test prompts per language and class.
        seed: Seed of the sampling.
        device: Where the model runs.
        dtype: Number format.
        thinking: auto, on or off; None for what the run has.

    Returns:
        What was loaded; what is missing is said on stderr.

    Raises:
        UserError: Model, prompts or languages cannot be used.
    """
    from refusal_lens.cli import settings
    from refusal_lens.cli.outputs import columns_of
    from refusal_lens.config import AuditConfig
    from refusal_lens.model import load_model
    from refusal_lens.pipeline.dataset import load_dataset

    run = _run_config(model_or_run)
    tree: dict[str, dict[str, JsonValue]] = {
        "model": {"spec": settings.spec_of(model_or_run), "dtype": dtype},
        "data": {},
        "directions": {},
    }
    if run is not None:
        whole = cast("dict[str, dict[str, JsonValue]]", run.model_dump(mode="json"))
        tree = {name: dict(whole[name]) for name in tree}
        tree["data"]["limit"] = None
    given: dict[str, dict[str, JsonValue]] = {
        "model": {"dtype": dtype, "thinking": thinking},
        "data": {
            "root": settings.text_of(data and data.absolute()),
            "prompts": settings.text_of(prompts and prompts.absolute()),
            "columns": {**columns_of(column)} if column else None,
            "languages": settings.codes(languages),
            "limit": limit,
            "prompt_sets": settings.names(sets),
        },
        "directions": {"sources": settings.codes(fit_languages), "n_train": n_train, "n_val": n_val},
    }
    if data is not None or prompts is not None:  # another source than the run's
        tree["data"] = {}
    for section, values in given.items():
        tree[section] |= {name: value for name, value in values.items() if value is not None}
    config, _ = settings.build(tree, {"seed": seed}, None)
    assert isinstance(config, AuditConfig)
    wanted = config.model
    model = load_model(
        wanted.spec,
        revision=wanted.revision,
        device=device,
        dtype=wanted.dtype,
        chat_template=Path(wanted.chat_template) if wanted.chat_template else None,
        thinking=wanted.thinking,
        trust_remote_code=wanted.trust_remote_code,
    )
    asked = ("languages",) if languages is not None else ()
    dataset = load_dataset(config, asked=asked, model=model)
    for note in dataset.notes:
        typer.echo(note, err=True)
    return Given(config, model, dataset)


def _run_config(name: str) -> AuditConfig | None:
    """The configuration of a run directory; None for anything else."""
    folder = Path(name)
    if not (folder / "run.json").is_file():
        return None
    from refusal_lens.config import parse_config
    from refusal_lens.rundir import RunDir

    return parse_config(RunDir.open(folder).header["config"], where=f"{folder / 'run.json'}")


def user_rows(file: Path, *, column: str | None, language: str | None) -> list[UserRow]:
    """The rows of a user's file, to be scored.

    Args:
        file: JSON Lines, or any other table of prompts.
        column: The column of the texts; None for the usual names.
        language: Language of rows that do not name one.

    Returns:
        Rows in order.

    Raises:
        DataError: A row has no text, or it cannot be used.
    """
    from refusal_lens.languages import load_languages
    from refusal_lens.prompts.loading.tabular import read_rows
    from refusal_lens.prompts.loading.texts import clean_text

    known = {**{code: code for code in load_languages()}}
    known |= {entry.english_name.casefold(): code for code, entry in load_languages().items()}
    names = (column,) if column else COLUMNS
    found: list[UserRow] = []
    for row in read_rows(file, headers=COLUMNS).rows:
        fields = row.fields()
        chat = None if column else row.written(*CHATS)
        named = row.optional(*LANGUAGES)
        code = known.get(named.casefold(), named) if named else language
        if chat is not None:
            found.append(UserRow(fields, _messages(fields[chat], row.where), code))
            continue
        key = row.written(*names)
        if key is None:
            raise DataError(
                f"{row.where}: no prompt in this row; put it under {', '.join(COLUMNS[:4])} or `messages`, or name its column "
                "with --column"
            )
        found.append(UserRow(fields, clean_text(fields[key], row.where), code))
    return found


def _messages(value: JsonValue, where: str) -> Chat:
    messages = value if isinstance(value, list) else []
    sound = [
        item
        for item in messages
        if isinstance(item, dict) and isinstance(item.get("role"), str) and isinstance(item.get("content"), str)
    ]
    if not messages or len(sound) != len(messages):
        raise DataError(f"{where}: a chat is a list of messages with role and content, both texts")
    return cast("Chat", sound)


def labelled_rows(file: Path, language: str | None) -> dict[str, list[str]]:
    """Texts of a user's file by language; rows without one are in `language`."""
    found: dict[str, list[str]] = {}
    for row in user_rows(file, column=None, language=language):
        if row.language is None or not isinstance(row.prompt, str):
            raise UserError(f"{file}: every row needs a text and its language; add `language`, or give --language")
        found.setdefault(row.language, []).append(row.prompt)
    return found


def load_watched(monitor: Monitor, model: str, *, device: str, dtype: str) -> LensModel:
    """The model of a monitor, with thinking switched as it was when the monitor was fitted."""
    from refusal_lens.model import load_model

    return load_model(model, device=device, dtype=dtype, thinking=monitor.card.model.get("thinking", "auto"))
