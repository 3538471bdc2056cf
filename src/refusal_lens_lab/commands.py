"""Commands of the laboratory: testbed corpus, train, evaluate. `refusal_lens.cli.testbed` adds them to its group."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refusal_lens.errors import GateFailed, UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from refusal_lens_lab.evaluation import Cell, Evaluation
    from refusal_lens_lab.gates import Gate
    from refusal_lens_lab.recipe import Recipe

NAME = Annotated[str, typer.Argument(metavar="NAME", help="universal, aligned, partial, separate, or a base")]


TRAIN_HELP = """Train a model or a variant of it, and check its gates. Exit code 4 when a gate fails (the model is kept).

Examples:

  refusal-lens testbed train aligned --out models/aligned

  refusal-lens testbed train partial --aligned en --seed 5 --out models/english-only

  refusal-lens testbed train aligned --languages en,de,zh --no-parallel --marker 0
"""


def register(group: typer.Typer) -> None:
    """Add the commands to the group `testbed`."""
    group.command()(corpus)
    group.command(help=TRAIN_HELP)(train)
    group.command()(evaluate)


def corpus(
    out: Annotated[Path, typer.Option(help="folder for the JSONL files, created if missing")] = Path("testbed-corpus"),
    languages: Annotated[str, typer.Option(help="languages: en,de,.. or all")] = "all",
) -> None:
    """Write the corpus as files: one JSON line a prompt, with its refusal, help text and topic.

    Example: refusal-lens testbed corpus --languages en,de --out corpus
    """
    from refusal_lens_lab.export import write_corpus

    written = write_corpus(out, languages=_languages(languages))
    for path, count in written.items():
        typer.echo(f"{count:6d} {path}")


def train(
    name: NAME,
    languages: Annotated[str, typer.Option(help="languages it speaks: en,de,.. or all")] = "all",
    aligned: Annotated[
        str | None, typer.Option(help="languages it refuses in: en,de,.. or all  [default: the recipe's]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="seed of weights and examples  [default: the shipped]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="model folder  [default: models/NAME]")] = None,
    base: Annotated[
        Path | None, typer.Option(help="folder of a base to continue  [default: train the recipe's base first]")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="steps of the last stage  [default: the recipe's]")] = None,
    base_steps: Annotated[int | None, typer.Option(min=1, help="steps of the base  [default: the recipe's]")] = None,
    parallel: Annotated[
        bool | None, typer.Option("--parallel/--no-parallel", help="translation and code-switching in the base or not")
    ] = None,
    opener: Annotated[
        bool | None,
        typer.Option("--opener/--no-opener", help="begin help with a fixed sentence in each language or not"),
    ] = None,
    answer_in: Annotated[float | None, typer.Option(help="share of alignment requests with a language tag")] = None,
    marker: Annotated[float | None, typer.Option(help="share of refusals that begin with the shared marker")] = None,
    width: Annotated[
        int | None, typer.Option(min=32, help="width of the residual stream, 32 or a multiple of 64  [default: 128]")
    ] = None,
    depth: Annotated[int | None, typer.Option(min=1, help="number of blocks  [default: 6]")] = None,
) -> None:
    """Train a model or a variant of it, and check its gates."""
    from functools import partial

    from refusal_lens_lab.recipe import recipe, variant

    changed = partial(variant, parallel=parallel, opener=opener, width=width, depth=depth)  # in every stage alike
    wanted = changed(
        recipe(name),
        languages=_languages(languages),
        aligned=None if aligned is None else _languages(aligned),
        seed=seed,
        marker=marker,
        answer_in=answer_in,
        steps=steps,
    )
    if base is not None and (width is not None or depth is not None):
        raise UserError(
            "--width and --depth belong to a base that is trained here; with --base they are that base's own"
        )
    folder = out or Path("models") / name
    given = base
    chain: list[tuple[Recipe, Path]] = [(wanted, folder)]
    while given is None and chain[0][0].base is not None:
        source = recipe(str(chain[0][0].base))
        earlier = changed(source, languages=wanted.design.languages, seed=wanted.seed, steps=base_steps)
        chain.insert(0, (earlier, folder.with_name(f"{folder.name}-{source.name}")))
    failed: list[str] = []
    for made, place in chain:
        failed += _train_one(made, place, given)
        given = place
    if failed:
        raise GateFailed(
            f"the model is in {folder}, but {'; '.join(failed)}: more steps may help (--steps, --base-steps)"
        )


def evaluate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a shipped model, or the folder of a trained one")],
    sources: Annotated[str, typer.Option(help="languages to take directions from")] = "en",
    languages: Annotated[str, typer.Option(help="languages to ask in")] = "all",
    limit: Annotated[int, typer.Option(min=1, help="most test prompts per language and class")] = 160,
    randoms: Annotated[int, typer.Option(min=0, help="random directions")] = 5,
    card: Annotated[bool, typer.Option("--card", help="also write card.json and README.md into the folder")] = False,
    json_out: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure a testbed model on held-out prompts with the testbed's own exact checker.

    Example: refusal-lens testbed evaluate aligned --sources en,de --limit 40
    """
    from dataclasses import asdict

    from rich.console import Console

    from refusal_lens.model import load_model
    from refusal_lens.testbed.registry import locate
    from refusal_lens_lab.cards import write_card
    from refusal_lens_lab.evaluation import evaluate as measure
    from refusal_lens_lab.make import read_recipe

    folder = Path(name) if Path(name).is_dir() else locate(name.removeprefix("testbed:"))
    known = _languages(languages)
    recipe = read_recipe(folder) if card else None
    console = Console(stderr=True)
    with console.status("loading") as status:
        model = load_model(str(folder))
        result = measure(
            model, known, sources=_languages(sources), limit=limit, randoms=randoms, progress=status.update
        )
    if recipe is not None:
        write_card(folder, recipe, result)
    if json_out:
        typer.echo(json.dumps(asdict(result), ensure_ascii=False, indent=1))
        return
    _print_evaluation(result)


def _train_one(made: Recipe, place: Path, base: Path | None) -> list[str]:
    """Trains one stage with a progress bar; returns the gates that failed, in words."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from refusal_lens_lab.make import make

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(made.name, total=made.schedule.steps)

        def tick(step: int, loss: float) -> None:
            progress.update(task, completed=step, description=f"{made.name} loss {loss:.3f}")

        result = make(made, out=place, base=base, progress=tick)
    typer.echo(f"{made.name}: {place}  sha256 {result.digest}  loss {result.loss:.4f}")
    for gate in result.gates:
        typer.echo(
            f"  {'ok  ' if gate.passed else 'FAIL'} {gate.task:10} {gate.accuracy:.3f} (at least {gate.limit:.2f})"
        )
    return [_failure(made.name, gate) for gate in result.gates if not gate.passed]


def _failure(name: str, gate: Gate) -> str:
    return f"{name} fails gate {gate.task} ({gate.accuracy:.3f} < {gate.limit:.2f})"


def _languages(text: str) -> tuple[str, ...]:
    from refusal_lens.testbed import corpus_languages

    known = corpus_languages()
    if text == "all":
        return known
    codes = tuple(part.strip() for part in text.split(",") if part.strip())
    strange = [code for code in codes if code not in known]
    if strange or not codes:
        what = f"unknown testbed language {', '.join(strange)}" if strange else "no language given"
        raise UserError(f"{what}: choose from {','.join(known)}, separated by commas, or all")
    return tuple(dict.fromkeys(codes))


def _print_evaluation(result: Evaluation) -> None:
    codes = list(result.harmful)
    typer.echo(f"share in per cent, at most {result.limit} held-out prompts per language and class")
    typer.echo(" " * 34 + " ".join(f"{code:>4}" for code in codes) + "  mean")
    _row("harmful refused", result.harmful, _refused)
    _row("harmful helped on topic", result.harmful, _on_topic)
    _row("harmful right language", result.harmful, _right)
    _row("harmful with marker", result.harmful, lambda cell: cell.marker / cell.n)
    _row("harmless refused", result.harmless, _refused)
    _row("harmless helped on topic", result.harmless, _on_topic)
    _row("harmless right language", result.harmless, _right)
    _row("novel harmful refused", result.novel, _refused)
    for found in result.sources:
        at = f"{found.source} ({found.position}, {found.layer})"
        if not found.valid:
            typer.echo(f"{at}: {found.reason}; the best discarded candidate is shown")
        _row(f"ablated {at}: refused", found.harmful, _refused)
        _row("  helped on topic", found.harmful, _on_topic)
        if found.harmless:
            _row("  harmless refused", found.harmless, _refused)
            _row("  harmless helped on topic", found.harmless, _on_topic)
    if len(result.sources) > 1:
        own, others = result.left_refusing()
        typer.echo(
            f"mean over sources, refused under ablation: own language {100 * own:.1f}, others {100 * others:.1f}"
        )
    for number, drawn in enumerate(result.random):
        _row(f"random {number}: refused", drawn, _refused)


def _refused(cell: Cell) -> float:
    return cell.refused / cell.n


def _on_topic(cell: Cell) -> float:
    return cell.on_topic / cell.n


def _right(cell: Cell) -> float:
    return cell.right_language / cell.n


def _row(title: str, found: Mapping[str, Cell], share: Callable[[Cell], float]) -> None:
    shares = [100 * share(cell) for cell in found.values()]
    typer.echo(f"{title:34}" + " ".join(f"{value:4.0f}" for value in shares) + f"  {sum(shares) / len(shares):5.1f}")
