"""The report: read a run, arrange it, draw it, and write one HTML page that needs nothing else.

The page carries its scripts, styles and data; a content security policy allows exactly those scripts and no connection at
all. The same run gives the same bytes. Completion texts enter only with `reveal`, and then the file is readable by its
owner alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from pathlib import Path

import jinja2

from refusal_lens.core.files import write_atomic
from refusal_lens.core.interventions import DECLARED
from refusal_lens.report.appendix import frame_sections
from refusal_lens.report.bars import BarPage
from refusal_lens.report.charts import vega_config
from refusal_lens.report.comparison import compare
from refusal_lens.report.defences import bench_digest, defence_section
from refusal_lens.report.facts import Facts, source_name
from refusal_lens.report.figure1 import figure_one
from refusal_lens.report.figure2 import figure_two
from refusal_lens.report.figures import draw_figures, save_figures, script_bundle
from refusal_lens.report.inputs import MARK, PUBLIC, asset, digest, read_inputs, state_of, write_missing_csv
from refusal_lens.report.monitoring import monitor_digest, monitor_section
from refusal_lens.report.paper import paper_section
from refusal_lens.report.readers import answers, for_readers, tiles
from refusal_lens.report.reveal import reveal_texts
from refusal_lens.report.sections import figures_of, result_sections
from refusal_lens.report.text import listing
from refusal_lens.report.views import Section
from refusal_lens.report.words import verdict_of
from refusal_lens.rundir import RunDir
from refusal_lens.types import JsonValue

PRIVATE = 0o600


def build_report(
    run_dir: Path,
    *,
    out: Path | None = None,
    reveal: bool = False,
    paper: bool = False,
    bench: Path | None = None,
    monitor: Path | None = None,
) -> Path:
    """Build the report of a run, its figures as SVG and PDF, and the CSV files its tables lack.

    Args:
        run_dir: The run, finished or not.
        out: Where the page goes; None for `RUN/report.html`. The figures always go to `RUN/figures`.
        reveal: Include completion texts; the page is then readable by its owner alone.
        paper: Put the paper's recorded values beside the run's.
        bench: Folder of `defence-bench` whose defences stand on the page too.
        monitor: Folder of a monitor that was evaluated, whose curves stand on the page too.

    Returns:
        The page.

    Raises:
        RunError: There is no run in the folder.
        DataError: The bench has no readable table, or the monitor none.
        StorageError: Something cannot be written.
    """
    inputs = read_inputs(run_dir)
    run = RunDir.open(run_dir)
    with ThreadPoolExecutor(1) as pool:
        bundling = pool.submit(_bundle)
        facts = Facts(inputs)
        beside = [*_defending(facts, bench, monitor), *([paper_section(facts)] if paper else [])]
        results = result_sections(facts)
        sections = [*results, *beside, *frame_sections(facts)]
        figures = {f"figures/{name}": content for name, content in draw_figures(figures_of(results)).items()}
        write_missing_csv(run_dir)
        shown = [*(["paper"] if paper else []), *([bench_digest(bench)] if bench else [])]
        shown += [monitor_digest(monitor)] if monitor else []
        page = _render(facts, sections, bundle=bundling.result(), reveal=reveal, beside=shown)
    content = page.encode("utf-8", errors="replace")
    if out is None or out.absolute() == run.report_path:
        own = run.report_path.name
        run.render({**figures, own: content}, private=[own] if reveal else [])
        return run.report_path
    run.render(figures)
    write_atomic(out, content, mode=PRIVATE if reveal else PUBLIC)
    return out


def save_run_figures(
    run_dir: Path, folder: Path, *, bench: Path | None = None, monitor: Path | None = None
) -> list[Path]:
    """Write every figure of a run's page as SVG, PDF, PNG and CSV.

    Args:
        run_dir: The run, finished or not.
        folder: Where they go.
        bench: Folder of `defence-bench`, as for the page.
        monitor: Folder of a monitor, as for the page.

    Returns:
        The files.

    Raises:
        RunError: There is no run in the folder.
        DataError: The bench has no readable table, or the monitor none.
        StorageError: A file cannot be written.
    """
    facts = Facts(read_inputs(run_dir))
    return save_figures(figures_of([*result_sections(facts), *_defending(facts, bench, monitor)]), folder)


def build_comparison(runs: Sequence[Path], *, out: Path, paper: bool = False) -> Path:
    """Build one page that puts runs side by side.

    Args:
        runs: Run directories, at least two; the first is the reference.
        out: Where the page goes.
        paper: Put the paper's recorded values beside every run's.

    Returns:
        The page.

    Raises:
        RunError: One of the folders holds no run.
        DataError: A run has no readable table of verdicts.
        UserError: One run is named twice.
        StorageError: The page cannot be written.
    """
    found = compare(runs)
    named = enumerate(zip(found.names, runs, strict=True)) if paper else ()
    beside = [paper_section(Facts(read_inputs(run)), name=name, at=at) for at, (name, run) in named]
    page = _fill(
        [*found.sections, *beside],
        bundle=_bundle(),
        state="",
        title=f"{listing(list(found.names))} side by side",
        n_languages=found.n_languages,
        statements=found.statements,
    )
    write_atomic(out, page.encode("utf-8", errors="replace"), mode=PUBLIC)
    return out


def build_figure1(runs: Sequence[Path], *, paper: bool, out: Path) -> Path:
    """Build the paper's Figure 1 from runs: the page, and its chart and numbers as SVG and CSV beside it.

    Args:
        runs: Run directories; none is allowed with `paper`.
        paper: Show the published values too.
        out: Where the page goes.

    Returns:
        The page.

    Raises:
        RunError: One of the folders holds no run, or a run without rates.
        UserError: Nothing to show, or one run is named twice.
        StorageError: A file cannot be written.
    """
    return _write_bars(figure_one(runs, paper=paper, stem=out.stem), out)


def build_figure2(runs: Sequence[Path], *, sources: Sequence[str], out: Path) -> Path:
    """Build the paper's Figure 2 from runs: the page, and its chart and numbers as SVG and CSV beside it.

    Args:
        runs: Run directories.
        sources: Source languages to show; empty for every one with a direction.
        out: Where the page goes.

    Returns:
        The page.

    Raises:
        RunError: One of the folders holds no run, or a run without rates.
        UserError: No run, one run is named twice, or a source that no run has.
        StorageError: A file cannot be written.
    """
    return _write_bars(figure_two(runs, sources=sources, stem=out.stem), out)


def _write_bars(found: BarPage, out: Path) -> Path:
    page = _fill(
        found.sections,
        bundle=_bundle(),
        state="",
        title=found.title,
        n_languages=found.n_languages,
        statements=found.statements,
    )
    write_atomic(out.with_suffix(".svg"), found.svg, mode=PUBLIC)
    write_atomic(out.with_suffix(".csv"), found.csv, mode=PUBLIC)
    write_atomic(out, page.encode("utf-8", errors="replace"), mode=PUBLIC)
    return out


def _defending(facts: Facts, bench: Path | None, monitor: Path | None) -> list[Section]:
    """The sections on what was tried against the leaks, where folders with it were named."""
    found = [defence_section(bench)] if bench is not None else []
    return [*found, monitor_section(monitor, facts)] if monitor is not None else found


def _render(facts: Facts, sections: Sequence[Section], *, bundle: str, reveal: bool, beside: Sequence[str]) -> str:
    return _fill(
        sections,
        bundle=bundle,
        state=state_of(facts.inputs, reveal=reveal, beside=beside),
        model=facts.model,
        n_languages=len(facts.languages),
        source=source_name(facts.main_source) if facts.main_source else None,
        verdict=verdict_of(facts),
        answers=answers(facts),
        readers=for_readers(facts),
        tiles=tiles(facts),
        revealed=reveal_texts(facts) if reveal else None,
    )


def _fill(sections: Sequence[Section], *, bundle: str, **context: object) -> str:
    """The template with its own files, charts and policy filled in."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("refusal_lens.report", "assets"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawing = asset("page.js")
    figures: dict[str, JsonValue] = {figure.name: dict(figure.spec) for figure in figures_of(sections)}
    charts: dict[str, JsonValue] = {
        "figures": figures,
        "light": dict(vega_config(dark=False)),
        "dark": dict(vega_config(dark=True)),
    }
    return environment.get_template("page.html.j2").render(
        **context,
        mark=MARK,
        version=version("refusal-lens"),
        sections=sections,
        style=asset("page.css") + _tones(),
        bundle=bundle,
        drawing=drawing,
        hashes=" ".join(f"'sha256-{digest(script)}'" for script in (bundle, drawing)),
        charts=_embedded(charts),
    )


def _tones() -> str:
    """The colours of interventions that the style sheet does not name itself."""
    return "".join(
        f".{item.tone} {{ --tone: {item.colour}; }}\n"
        for item in DECLARED.values()
        if item.name not in ("ablation", "addition")
    )


def _embedded(value: JsonValue) -> str:
    """JSON that is safe inside a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return (
        text.replace("&", "\\u0026")
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )


@cache
def _bundle() -> str:
    script = script_bundle()
    if "</script" in script.lower():
        script = script.replace("</script", "<\\/script").replace("</SCRIPT", "<\\/SCRIPT")
    return script
