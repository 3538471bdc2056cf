"""Command: audit. It turns options into a configuration; `running` runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refusal_lens.cli.running import Quiet, Verbose, loudness, run
from refusal_lens.cli.settings import (
    batch_size_of,
    build,
    codes,
    interventions_of,
    names,
    slug,
    spec_of,
    text_of,
)
from refusal_lens.core.interventions import DECLARED

if TYPE_CHECKING:
    from refusal_lens.types import JsonValue

Model = Annotated[str, typer.Argument(metavar="MODEL", help="testbed:NAME, a model folder, or a hub id")]


INTERVENTIONS_HELP = f"what is done with a direction, of {', '.join(DECLARED)}  [default: ablation,addition]"


def register(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    app.command(help=AUDIT_HELP)(audit)


AUDIT_HELP = """Audit a chat model: find its refusal direction, ablate and add it in every language, judge, report.

Examples:

  refusal-lens audit testbed:aligned --languages en,de,zh --out runs/first

  refusal-lens audit Qwen/Qwen2.5-7B-Instruct --data PolyRefuse --sources en,de --out runs/qwen

  refusal-lens audit ./my-model --data PolyRefuse --dry-run

  refusal-lens audit endpoint:http://localhost:8000/v1#my-model --data PolyRefuse --baseline-only

The same command again recomputes nothing that is still valid. Exit codes: 0 done, 2 wrong input, 3 no valid direction.
"""


def audit(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="testbed:NAME, a model folder, a hub id, or endpoint:URL#NAME")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="folder with the PolyRefuse files; a testbed brings its own prompts")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="prompts of your own: CSV, Parquet, JSON.. with text, lang, harm, split"),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="text=NAME,..", help="columns of --prompts with other names, e.g. text=goal,lang=language"
        ),
    ] = None,
    languages: Annotated[str | None, typer.Option(help="target languages: en,de,.. or all  [default: all]")] = None,
    sources: Annotated[
        str | None, typer.Option(help="languages to take directions from: en,de,.. or all  [default: en]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="run directory  [default: runs/MODEL]")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="test prompts per language and class  [default: all]")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="length limit of an answer  [default: 512, testbed 48]")
    ] = None,
    batch_size: Annotated[str | None, typer.Option(help="rows per forward pass, or auto  [default: auto]")] = None,
    rule: Annotated[str | None, typer.Option(help="selection rule: paper or arditi  [default: paper]")] = None,
    kl_threshold: Annotated[float | None, typer.Option(help="override the rule's KL threshold")] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="native, wildguard, polyguard, qwen3guard, encoder:FOLDER or endpoint:URL; several joined by commas: a panel"
            "  [default: native]"
        ),
    ] = None,
    translate: Annotated[
        str | None, typer.Option(help="translate answers to English before judging: hf:MODEL or endpoint:URL#MODEL")
    ] = None,
    thinking_format: Annotated[
        str | None,
        typer.Option(
            metavar="auto|none|think|harmony|REGEX", help="how thoughts stand in the model's answers  [default: auto]"
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="sampling and null directions  [default: 0]")] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps or a device map  [default: auto]")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16, float16  [default: auto]")] = None,
    random: Annotated[
        int | None, typer.Option(min=0, help="random null directions of equal norm  [default: 3]")
    ] = None,
    mode: Annotated[str | None, typer.Option(help="selection sweep: exact or race  [default: exact]")] = None,
    layer_step: Annotated[
        int | None, typer.Option(min=1, help="score candidates of every n-th layer alone  [default: 1]")
    ] = None,
    full_sweep: Annotated[
        bool | None, typer.Option("--full-sweep", help="score also what the rule discards anyway")
    ] = None,
    interventions: Annotated[
        str | None,
        typer.Option(metavar="NAME[:OPTION=VALUE],..", help=INTERVENTIONS_HELP),
    ] = None,
    coefficient: Annotated[float | None, typer.Option(help="strength of the addition  [default: 1.0]")] = None,
    affine: Annotated[bool | None, typer.Option("--affine", help="ablate to the harmless mean instead of zero")] = None,
    variant: Annotated[
        str | None, typer.Option(help="ablation: exact, or published (leaks in post-norm models)  [default: exact]")
    ] = None,
    n_train: Annotated[int | None, typer.Option(min=1, help="train prompts per class  [default: 128]")] = None,
    n_val: Annotated[int | None, typer.Option(min=1, help="validation prompts per class  [default: 32]")] = None,
    prompt_sets: Annotated[
        str | None, typer.Option(help="further test sets in the data folder, e.g. xstest,oktest")
    ] = None,
    base: Annotated[str | None, typer.Option(help="unaligned base model, the null of the cosines")] = None,
    revision: Annotated[str | None, typer.Option(help="revision of a hub model")] = None,
    chat_template: Annotated[Path | None, typer.Option(help="jinja file for a model without a chat template")] = None,
    thinking: Annotated[
        str | None,
        typer.Option(
            metavar="auto|on|off", help="turn thinking on or off by the chat template's own switch  [default: auto]"
        ),
    ] = None,
    trust_remote_code: Annotated[
        bool | None, typer.Option("--trust-remote-code", help="let the model folder's own code run; off unless asked")
    ] = None,
    accept_inexact: Annotated[
        bool | None,
        typer.Option("--accept-inexact", help="go on with a model that fails its checks; numbers are marked"),
    ] = None,
    stop_when_decided: Annotated[
        bool | None, typer.Option("--stop-when-decided", help="stop an answer once it is surely a refusal")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="what writes answers: hf (transformers), vllm, or auto (vllm on a GPU)  [default: auto]"),
    ] = None,
    tensor_parallel: Annotated[
        int | None, typer.Option(min=1, help="devices over which vLLM spreads the model  [default: 1]")
    ] = None,
    plain: Annotated[
        bool | None, typer.Option("--plain", help="call the model anew for every token: slower, the same answers")
    ] = None,
    executor: Annotated[str | None, typer.Option(help="local or ray  [default: local]")] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="worker processes  [default: 1; testbed in 8 languages or more: one per core, 4 at most]"
        ),
    ] = None,
    address: Annotated[str | None, typer.Option(help="address of a Ray cluster")] = None,
    gpus_per_worker: Annotated[float | None, typer.Option(min=0, help="GPUs of each Ray worker")] = None,
    store: Annotated[
        str | None, typer.Option(help="URL (s3://..) through which workers without a shared disk exchange results")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="requests at once, where MODEL is endpoint:URL#NAME  [default: 8]")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with the same settings; options given here win")
    ] = None,
    baseline_only: Annotated[
        bool | None, typer.Option("--baseline-only", help="measure the untouched model alone: all that `gate` needs")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="a first look in minutes: few prompts, short answers, race, one null")
    ] = False,
    reveal: Annotated[bool, typer.Option("--reveal", help="show completion texts in the report of this run")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check everything, print the plan and its cost, write nothing")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="take over --out although another model's run stands there")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run an audit."""
    from refusal_lens.cli.outputs import columns_of
    from refusal_lens.config import QUICK

    asked: dict[str, dict[str, JsonValue]] = {
        "model": {
            "spec": spec_of(model),
            "revision": revision,
            "dtype": dtype,
            "chat_template": text_of(chat_template),
            "thinking": thinking,
            "trust_remote_code": trust_remote_code,
            "accept_inexact": accept_inexact,
        },
        "data": {
            "root": text_of(data and data.absolute()),
            "prompts": text_of(prompts and prompts.absolute()),
            "columns": {**columns_of(column)} if column else None,
            "languages": codes(languages),
            "limit": limit,
            "prompt_sets": names(prompt_sets),
        },
        "directions": {
            "sources": codes(sources),
            "rule": rule,
            "kl_threshold": kl_threshold,
            "mode": mode,
            "layer_step": layer_step,
            "full_sweep": full_sweep,
            "random": random,
            "n_train": n_train,
            "n_val": n_val,
        },
        "interventions": {
            "affine": affine,
            "variant": variant,
            "coefficient": coefficient,
            **interventions_of(interventions),
        },
        "generation": {"max_new_tokens": max_new_tokens, "stop_when_decided": stop_when_decided},
        "geometry": {"base": base},
        "transport": {
            "executor": executor,
            "workers": workers,
            "address": address,
            "gpus_per_worker": gpus_per_worker,
            "store": store,
            "concurrency": concurrency,
            "batch_size": batch_size_of(batch_size),
            "device": device,
            "engine": engine,
            "plain": plain,
            "tensor_parallel": tensor_parallel,
        },
    }
    top: dict[str, JsonValue] = {
        "judge": judge,
        "translate": translate,
        "thinking_format": thinking_format,
        "seed": seed,
        "baseline_only": baseline_only,
    }
    settings, by_name = build(asked, top, config, QUICK if quick else {})
    run_directory = out or Path("runs") / slug(settings.model.spec)
    if languages is not None and languages.strip().lower() == "all":
        by_name = by_name - {"languages"}
    how = loudness(quiet=quiet, verbose=verbose)
    run(settings, run_directory, how=how, reveal=reveal, dry_run=dry_run, asked=by_name, replace=replace)
