"""What `extract` and `score` are given: a model that passes its checks, prompts of both classes that fit its context, tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from refusal_lens.errors import NoValidDirection, UserError

if TYPE_CHECKING:
    from refusal_lens.interventions import ModelChecks
    from refusal_lens.model import BatchSize, LensModel
    from refusal_lens.prompts import PromptFile
    from refusal_lens.types import Harm, Prompt


def load(
    model: str, revision: str | None, device: str, dtype: str, chat_template: Path | None, thinking: str, trust: bool
) -> LensModel:
    """The model, by the options that the commands share."""
    from refusal_lens.model import load_model

    return load_model(
        model,
        revision=revision,
        device=device,
        dtype=dtype,
        chat_template=chat_template,
        thinking=thinking,
        trust_remote_code=trust,
    )


def sound(model: LensModel, accept_inexact: bool) -> ModelChecks:
    """What the model was checked for; it stops here where a check fails, unless that was accepted."""
    from refusal_lens.interventions import require_sound

    found = require_sound(model, accept_inexact=accept_inexact)
    if not found.ok:
        typer.echo(f"inexact, as accepted: {found.failures}; every number is marked", err=True)
    return found


def groups_of(harmful: Path, harmless: Path, column: str | None, language: str = "en") -> list[list[Prompt]]:
    """Both classes. The column asked for must be in one file at least: the other class may lie in another kind of table."""
    from refusal_lens.prompts import MissingColumnError, read_prompts

    files: list[PromptFile] = []
    without: list[MissingColumnError] = []
    kinds: tuple[tuple[Path, Harm], ...] = ((harmful, "harmful"), (harmless, "harmless"))
    for file, harm in kinds:
        try:
            files.append(read_prompts(file, language=language, harm=harm, column=column))
        except MissingColumnError as fault:
            without.append(fault)
            if column is None or len(without) == len(kinds):
                raise without[0] from None
            try:
                files.append(read_prompts(file, language=language, harm=harm))
            except MissingColumnError:
                raise fault from None
    for file, option in zip(files, ("--harmful", "--harmless"), strict=True):
        typer.echo(f"{option} {file.summary()}", err=True)
    groups = [list(file.prompts) for file in files]
    texts = {prompt.text for prompt in groups[0]}
    both = [prompt.text for prompt in groups[1] if prompt.text in texts]
    if both:
        raise UserError(
            f"{len(both)} prompts stand in {harmful} and in {harmless} (first: {both[0][:80]!r}): "
            "a prompt is harmful or harmless; take each out of one file"
        )
    return groups


def fitting(model: LensModel, groups: list[list[Prompt]]) -> list[list[Prompt]]:
    """The prompts that fit the model's context; the others are named, and each class needs one."""
    fitting: list[list[Prompt]] = []
    for option, prompts in zip(("--harmful", "--harmless"), groups, strict=True):
        long = set(model.too_long([prompt.text for prompt in prompts]))
        kept = [prompt for index, prompt in enumerate(prompts) if index not in long]
        if not kept:
            raise UserError(f"{option}: no prompt fits the model's context of {model.context} tokens; shorten them")
        if long:
            rows = ", ".join(str(index + 1) for index in sorted(long)[:10])
            typer.echo(
                f"{option}: {len(long)} of {len(prompts)} prompts left out, longer than the model's context of "
                f"{model.context} tokens (row {rows})",
                err=True,
            )
        fitting.append(kept)
    return fitting


def discover(model: LensModel, groups: list[list[Prompt]], language: str, batch_size: BatchSize) -> list[int]:
    """Refusal tokens found in the model's own answers, which the native judge reads; exit 3 where there are none."""
    from refusal_lens.directions import discover_refusal_tokens
    from refusal_lens.judging import get_judge

    found = discover_refusal_tokens(model, *groups, language=language, judge=get_judge("native"), batch_size=batch_size)
    if not found.ids:
        raise NoValidDirection(f"no refusal tokens: {found.reason}; name them with --refusal-tokens")
    typer.echo(
        f"refusal tokens {list(found.ids)} ({', '.join(map(repr, found.tokens))}) hold {found.coverage:.0%} "
        f"of the first-token probability of {found.refused} refusals",
        err=True,
    )
    return list(found.ids)


def token_ids_of(text: str) -> list[int]:
    """Token ids as an option gives them."""
    try:
        ids = [int(part) for part in text.replace(" ", "").split(",")]
    except ValueError:
        raise UserError(f"--refusal-tokens {text!r}: expected token ids such as 40,2121") from None
    return list(dict.fromkeys(ids))


def check_threshold(value: float | None) -> None:
    """Refuse a KL limit that no divergence can have."""
    if value is not None and not value >= 0:
        raise UserError(f"--kl-threshold {value}: expected a number of nats, 0 or more")
