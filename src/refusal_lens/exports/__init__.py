"""A run's numbers and its direction in the formats of other houses: registries, model cards, papers, engines.

A format is one function and one line in `FORMATS`. Numbers are the tables' numbers; what was not measured stays missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import cast

from refusal_lens.core.files import PUBLIC_FILE, write_atomic
from refusal_lens.errors import UserError


@dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
        home: Module and function that write it.
        about: One line for the help.
        of: `numbers` of the run's tables, or one `direction`.
        options: Names of the options that it takes.
    """

    home: str
    about: str
    of: str = "numbers"
    options: tuple[str, ...] = ()


FORMATS: Mapping[str, Format] = {
    "eee": Format("eee.to_eee", "Every Eval Ever, schema 0.3.0 (JSON)"),
    "eval-results": Format("hub.to_eval_results", "Hugging Face .eval_results (YAML)", options=("dataset",)),
    "model-card": Format("hub.to_model_card", "metadata block of a Hugging Face model card", options=("dataset",)),
    "markdown": Format("paper.to_markdown", "text block for a card: methods, numbers, limits"),
    "latex": Format("paper.to_latex", "the same for a paper"),
    "grades": Format("grades.to_grades", "AILuminate-like arithmetic per language (CSV)", options=("reference",)),
    "gguf": Format("vectors.to_gguf", "llama.cpp control vector, also for repeng", "direction", ("model_hint",)),
    "lm-eval": Format("vectors.to_lm_eval", "steering file (.pt) of lm-evaluation-harness", "direction",
                      ("coefficient", "blocks")),
    "steering-vectors": Format("vectors.to_steering_vectors", "fields of a SteeringVector (.pt)", "direction"),
    "pt": Format("vectors.to_pt", "plain tensor (.pt) with its metadata beside it", "direction"),
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What a format may be told; each format takes those that its entry names.

    Attributes:
        source: Which direction: a source language, `pooled`, or a null; None for the one that the run's report is about.
        dataset: Hub id of the benchmark.
        reference: Violating rate of a reference model, in [0, 1].
        coefficient: Multiple of the direction to add; None for the run's own.
        blocks: Name of the list of blocks inside the model.
        model_hint: The model's architecture as an engine calls it; None for what the run knows.
    """

    source: str | None = None
    dataset: str | None = None
    reference: float | None = None
    coefficient: float | None = None
    blocks: str = "layers"
    model_hint: str | None = None


def export(run: Path, form: str, *, out: Path, options: Options | None = None) -> list[Path]:
    """Write a run in a format.

    Args:
        run: Run directory.
        form: A name of `FORMATS`.
        out: The file.
        options: What the format may be told.

    Returns:
        The files written, `out` first; `pt` writes its metadata beside it.

    Raises:
        UserError: The format is unknown, or a library that it needs is not installed.
        RunError: There is no run, or nothing to export yet.
        NoValidDirection: The run found no such direction.
        DataError: The format cannot hold a direction of this layer.
        StorageError: A file cannot be written.

    Example:
        export(Path("runs/qwen"), "eee", out=Path("qwen.json"))
    """
    options = options or Options()
    known = FORMATS.get(form)
    if known is None:
        raise UserError(f"no format {form!r}; there are {', '.join(FORMATS)}")
    files = _numbers(run, known, options) if known.of == "numbers" else _direction(run, known, options)
    places = {(out.with_name(out.stem + ending) if ending else out): content for ending, content in files.items()}
    for place, content in places.items():
        write_atomic(place, content, mode=PUBLIC_FILE)
    return list(places)


def _numbers(run: Path, known: Format, options: Options) -> dict[str, bytes]:
    from refusal_lens.exports.measured import measured

    given = {name: getattr(options, name) for name in known.options}
    write = cast("Callable[..., bytes]", _function(known))
    return {"": partial(write, **given)(measured(run))}


def _direction(run: Path, known: Format, options: Options) -> dict[str, bytes]:
    from refusal_lens.pipeline.results import open_run
    from refusal_lens.report.facts import Facts
    from refusal_lens.report.inputs import read_inputs

    facts = Facts(read_inputs(run))
    usual_source = facts.main_source or next(iter(facts.sources), "en")  # without a valid one: the message says why
    direction = open_run(run).direction(options.source or usual_source)
    own = facts.setting("interventions", "coefficient")
    usual = float(own) if isinstance(own, (int, float)) else 1.0
    told: dict[str, object] = {
        "model_hint": options.model_hint or facts.model,
        "coefficient": usual if options.coefficient is None else options.coefficient,
        "blocks": options.blocks,
    }
    write = cast("Callable[..., dict[str, bytes]]", _function(known))
    return write(direction, **{name: told[name] for name in known.options})


def _function(known: Format) -> object:
    module, _, name = known.home.partition(".")
    return getattr(import_module(f"{__name__}.{module}"), name)


__all__ = ["FORMATS", "Format", "Options", "export"]
