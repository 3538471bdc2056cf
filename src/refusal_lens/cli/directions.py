"""Commands: extract, score, select.

What a file holds is what is measured; only prompts that do not fit the model's context are left out, and named.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from refusal_lens.cli.direction_inputs import check_threshold, discover, fitting, groups_of, load, sound, token_ids_of
from refusal_lens.cli.outputs import check_file, check_folder
from refusal_lens.cli.settings import batch_size_of
from refusal_lens.errors import NoValidDirection, UserError
from refusal_lens.languages import get_language


class ModeChoice(StrEnum):
    """How candidates are scored."""

    exact = "exact"
    race = "race"


class RuleChoice(StrEnum):
    """Published selection rules."""

    paper = "paper"
    arditi = "arditi"


ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="testbed:NAME, a model folder, or a hub id.")]
FORMS = "CSV, TSV, Parquet, JSON, JSON Lines (by column) or .txt (one a line)."
Harmful = Annotated[Path, typer.Option("--harmful", metavar="FILE", help=f"Harmful instructions: {FORMS}")]
Harmless = Annotated[Path, typer.Option("--harmless", metavar="FILE", help=f"Harmless instructions: {FORMS}")]
Column = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Column of the instructions  [default: text, prompt, instruction or goal]"),
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")]
Template = Annotated[
    Path | None, typer.Option("--chat-template", metavar="FILE", help="Jinja file that replaces the model's.")
]
Thinking = Annotated[
    str,
    typer.Option("--thinking", metavar="auto|on|off", help="Thinking on or off, by the chat template's own switch."),
]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model.")]
Inexact = Annotated[
    bool, typer.Option("--accept-inexact", help="Go on with a model that fails its checks; its numbers are marked.")
]
Batch = Annotated[str, typer.Option("--batch-size", metavar="N|auto", help="Rows of one forward pass.")]
Rule = Annotated[
    RuleChoice, typer.Option("--rule", help="paper: KL <= 0.2. arditi: KL <= 0.1 and steering score >= 0.")
]
KlThreshold = Annotated[float | None, typer.Option("--kl-threshold", metavar="X", help="Another KL limit, in nats.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    app.command("extract")(extract_command)
    app.command("score")(score_command)
    app.command("select")(select_command)


def extract_command(
    model: ModelArgument,
    harmful: Harmful,
    harmless: Harmless,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for candidates.safetensors and candidates.json.")
    ],
    column: Column = None,
    batch_size: Batch = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    revision: Revision = None,
    chat_template: Template = None,
    thinking: Thinking = "auto",
    trust_remote_code: Trust = False,
    accept_inexact: Inexact = False,
) -> None:
    """Extract candidate directions: mean(harmful) - mean(harmless) at every post-instruction position and layer.

    Example: refusal-lens extract testbed:universal --harmful harmful.csv --harmless harmless.csv --out candidates/
    """
    size = batch_size_of(batch_size) or "auto"
    check_folder(out, "--out")
    groups = groups_of(harmful, harmless, column)
    loaded = load(model, revision, device, dtype, chat_template, thinking, trust_remote_code)
    checks = sound(loaded, accept_inexact)
    from refusal_lens.directions import extract

    found = extract(loaded, *fitting(loaded, groups), batch_size=size)
    replace(found, inexact=checks.failures or None).save(out)
    shape = list(found.tensor.shape)
    said = {"out": str(out), "shape": shape, "positions": list(found.positions)}
    typer.echo(json.dumps({**said, "inexact": checks.failures or None, "checks": checks.numbers()}))


def score_command(
    model: ModelArgument,
    candidates: Annotated[Path, typer.Option("--candidates", metavar="DIR", help="Folder that extract wrote.")],
    harmful: Harmful,
    harmless: Harmless,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Score file, in the published layout.")],
    refusal_tokens: Annotated[
        str | None,
        typer.Option(
            "--refusal-tokens",
            metavar="1,2",
            help="Token ids; by default discovered from the model's answers.",
        ),
    ] = None,
    mode: Annotated[
        ModeChoice, typer.Option("--mode", help="exact: all candidates. race: leaders only.")
    ] = ModeChoice.exact,
    prune: Annotated[
        bool, typer.Option("--prune", help="Exact, but measure nothing that the rule discards anyway.")
    ] = False,
    rule: Rule = RuleChoice.paper,
    kl_threshold: KlThreshold = None,
    language: Annotated[
        str, typer.Option(help="Language of the prompts, to judge answers when tokens are discovered.")
    ] = "en",
    column: Column = None,
    batch_size: Batch = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    revision: Revision = None,
    chat_template: Template = None,
    thinking: Thinking = "auto",
    trust_remote_code: Trust = False,
    accept_inexact: Inexact = False,
) -> None:
    """Score candidates: refusal under ablation, refusal under addition, KL on harmless prompts.

    The rule and its KL limit matter only to --mode race and --prune, which leave out what that rule cannot choose.

    Example: refusal-lens score testbed:universal --candidates candidates/ --harmful v.json --harmless w.json --out scores.json
    """
    size = batch_size_of(batch_size) or "auto"
    check_file(out, "--out", reads=[harmful, harmless, candidates / "candidates.json"])
    get_language(language)
    groups = groups_of(harmful, harmless, column, language)
    wanted = None if refusal_tokens is None else token_ids_of(refusal_tokens)
    check_threshold(kl_threshold)
    from refusal_lens.core.files import write_atomic
    from refusal_lens.directions import Candidates, published_rows, score

    found = Candidates.load(candidates)
    loaded = load(model, revision, device, dtype, chat_template, thinking, trust_remote_code)
    checks = sound(loaded, accept_inexact)
    groups = fitting(loaded, groups)
    token_ids = wanted if wanted is not None else discover(loaded, groups, language, size)
    with progress_of("scoring candidates") as progress:
        scores = score(
            loaded,
            found,
            *groups,
            refusal_tokens=token_ids,
            mode=mode.value,
            prune=prune,
            rule=rule.value,
            kl_threshold=kl_threshold,
            batch_size=size,
            progress=progress,
        )
    inexact = found.inexact or checks.failures or None
    rows = published_rows(scores, inexact=inexact)
    write_atomic(out, (json.dumps(rows, indent=4) + "\n").encode(), mode=0o644)
    said = {"out": str(out), "candidates": len(scores), "mode": mode.value, "refusal_tokens": token_ids}
    typer.echo(json.dumps({**said, "inexact": inexact, "checks": checks.numbers()}))


def select_command(
    scores: Annotated[Path, typer.Argument(metavar="SCORES", help="Score file, ours or a published one.")],
    n_layers: Annotated[int, typer.Option("--n-layers", metavar="N", min=1, help="Number of layers of the model.")],
    rule: Rule = RuleChoice.paper,
    kl_threshold: KlThreshold = None,
) -> None:
    """Select a direction by a published rule; exit 3 with the reason when no candidate survives.

    Example: refusal-lens select scores.json --n-layers 28 --rule arditi
    """
    check_threshold(kl_threshold)
    from refusal_lens.directions import read_scores, select

    found = read_scores(scores)
    deepest = max(item.layer for item in found)
    if deepest >= n_layers:
        raise UserError(f"{scores} has candidates at layer {deepest}, so --n-layers {n_layers} is too small")
    choice = select(found, n_layers=n_layers, rule=rule.value, kl_threshold=kl_threshold)
    chosen = choice.selected
    if chosen is None:
        nearest = choice.best_discarded
        best = ""
        if nearest is not None:
            why = next(item.reason for item in choice.discarded if item.candidate is nearest)
            best = f"; nearest: position {nearest.position}, layer {nearest.layer} ({why})"
        raise NoValidDirection(choice.reason + best)
    fields = {name: value for name, value in asdict(chosen).items() if name != "skipped"}
    facts = {"rule": choice.rule, "kl_threshold": choice.kl_threshold, "survivors": len(choice.survivors)}
    typer.echo(json.dumps({**fields, **facts, "reason": choice.reason}))


@contextmanager
def progress_of(text: str) -> Generator[Callable[[int, int], None]]:
    """A progress bar on stderr, fed with (done, total); nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
