"""Command `defend`: fit one defence, keep it in a folder, and say what it does to every language."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refusal_lens.cli.outputs import check_folder, columns_of
from refusal_lens.cli.printing import Format, print_rows
from refusal_lens.errors import UserError

if TYPE_CHECKING:
    from refusal_lens.defences import Recipe
    from refusal_lens.defences.prompts import DefencePrompts
    from refusal_lens.model import LensModel

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="testbed:NAME, a model folder, or a hub id")]
Languages = Annotated[str, typer.Option(metavar="all|en,de,..", help="languages to serve")]
DataFolder = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="folder with the PolyRefuse files; a testbed brings its own"),
]
PromptFile = Annotated[
    Path | None, typer.Option("--prompts", metavar="FILE", help="prompts of your own with text, lang, harm, split")
]
ColumnNames = Annotated[list[str] | None, typer.Option("--column", metavar="text=NAME,..", help="columns of --prompts")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="sampling and null directions")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16, float16")]
TrainBatch = Annotated[
    int | None, typer.Option("--batch", min=1, help="prompts of each class in a training step  [default: 16]")
]
Refusals = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="refusals to teach where the model refuses too little: text and language"),
]
TOKENS, TESTBED_TOKENS = 128, 48
HARDENED = ("refat", "extended")


def register(app: typer.Typer) -> None:
    """Add this module's command to the app."""
    app.command("defend")(defend)


def defend(
    model: ModelName,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="NAME",
            help="recalibrated, conditional, coefficient, scaling, nullspace, affine; refat or extended for hardening",
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="folder for the defence")] = None,
    fit_languages: Annotated[
        str | None,
        typer.Option(metavar="en,de,..", help="languages whose labels are used  [default: en; all for hardening]"),
    ] = None,
    languages: Languages = "all",
    data: DataFolder = None,
    prompts: PromptFile = None,
    column: ColumnNames = None,
    n: Annotated[int, typer.Option("--n", min=1, help="test prompts per language and class")] = 32,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="length limit of an answer")] = None,
    bound: Annotated[
        float, typer.Option(min=0, max=1, help="most that refusal of harmless validation prompts may rise by")
    ] = 0.02,
    steps: Annotated[int | None, typer.Option(min=1, help="training steps of hardening  [default: 160]")] = None,
    batch: TrainBatch = None,
    refusals: Refusals = None,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    format: Annotated[Format, typer.Option(help="table, csv or json")] = Format.table,  # noqa: A002
) -> None:
    """Fit a defence on labelled prompts of some languages, without a label of the others, and show what it changes.

    Example: refusal-lens defend testbed:aligned --method recalibrated --fit-languages en --out defence

    Strength and place are chosen on train, validation and unlabelled prompts; the figures are from test prompts. A gate or a
    map is a file of numbers that acts while the model answers; hardening changes weights and keeps an adapter.
    """
    if out is not None:
        check_folder(out, "--out")
    from refusal_lens.defences import (
        METHODS,
        Fitting,
        Limits,
        fit_defence,
        harden,
        known_hardening,
        measure_defence,
    )
    from refusal_lens.model import load_model

    if method not in METHODS:
        if method not in HARDENED:
            raise UserError(f"--method {method!r}: choose one of {', '.join((*METHODS, *HARDENED))}")
        if out is None:
            raise UserError(f"--method {method} trains an adapter: name a folder for it with --out")
    loaded = load_model(model, device=device, dtype=dtype)
    found = load_prompts_of(loaded, languages, fit_languages or "en", data, prompts, column, n=n, seed=seed)
    tokens = max_new_tokens or tokens_of(model, data, prompts)
    said: dict[str, object]
    if method in METHODS:
        fitting = Fitting(loaded, found.fit, Limits(overrefusal=bound, tokens=min(tokens, Limits().tokens)))
        defence = fit_defence(method, fitting)
        rows = measure_defence(loaded, defence, found.test, tokens=tokens)
        if out is not None:
            defence.save(out)
        said = {"method": method, "settings": defence.card.settings, "validation": defence.card.validation}
    else:
        assert out is not None
        learnt = (
            found.selection
            if fit_languages is None
            else {code: found.selection[code] for code in found.fit.fit_languages}
        )
        labelled = [prompt for part in learnt.values() for prompt in part]
        recipe = recipe_of(steps, batch, seed)
        kind = known_hardening(method)
        merged = harden(loaded, labelled, method=kind, out=out, recipe=recipe, refusals=refusals_of(refusals))
        rows = measure_defence(loaded, merged, found.test, tokens=tokens, name=method)
        said = {"method": method, "steps": recipe.steps, "languages": sorted(learnt)}
    print_rows(rows, list(rows[0]) if rows else [], format)
    typer.echo(json.dumps({"out": None if out is None else str(out), **said}), err=format is not Format.table)


def load_prompts_of(
    model: LensModel,
    languages: str,
    fit_languages: str,
    data: Path | None,
    prompts: Path | None,
    column: list[str] | None,
    *,
    n: int | None,
    seed: int,
) -> DefencePrompts:
    """The prompts that the options name; what is missing is said on stderr."""
    from refusal_lens.defences.prompts import load_defence_prompts
    from refusal_lens.languages import resolve_languages

    sources = resolve_languages(fit_languages)
    asked = languages != "all"
    found = load_defence_prompts(
        model,
        languages=_languages_of(languages, prompts, column),
        fit_languages=sources,
        data=None if data is None else str(data),
        prompts=None if prompts is None else str(prompts),
        columns=columns_of(column),
        n=n,
        seed=seed,
        asked=asked,
    )
    for note in found.notes:
        typer.echo(note, err=True)
    return found


def recipe_of(steps: int | None, batch: int | None, seed: int) -> Recipe:
    """How an adapter is trained, as the options say."""
    from refusal_lens.defences import Recipe

    plain = Recipe(seed=seed)
    return replace(plain, steps=steps or plain.steps, batch=batch or plain.batch)


def refusals_of(file: Path | None) -> dict[str, list[str]]:
    """The refusals of a user's file, by language."""
    if file is None:
        return {}
    from refusal_lens.cli.monitor_data import labelled_rows

    found = labelled_rows(file, None)
    if not found:
        raise UserError(f"{file}: no refusals in it; a row has a text and its language")
    return found


def tokens_of(model: str, data: Path | None, prompts: Path | None) -> int:
    """Length limit of an answer where none is asked for."""
    return TESTBED_TOKENS if model.startswith("testbed:") and data is None and prompts is None else TOKENS


def _languages_of(languages: str, prompts: Path | None, column: list[str] | None) -> tuple[str, ...]:
    from refusal_lens.languages import resolve_languages

    if languages == "all" and prompts is not None:
        from refusal_lens.prompts import load_prompt_table

        return load_prompt_table(str(prompts), columns=columns_of(column)).languages
    return resolve_languages(languages)
