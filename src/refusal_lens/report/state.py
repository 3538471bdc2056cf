"""Whether a report on disk still shows its run: a digest of everything shown, kept in the page itself.

Light on purpose (no chart library): an audit that recomputed nothing asks only this.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from refusal_lens.report.inputs import RunInputs, read_inputs
from refusal_lens.rundir import RunDir

MARK = "refusal-lens-state"
ASSETS = ("page.html.j2", "page.css", "page.js")


def is_current(run_dir: Path, *, reveal: bool = False) -> bool:
    """Whether `RUN/report.html` already shows exactly this run.

    Args:
        run_dir: The run.
        reveal: Whether completion texts are asked for.

    Returns:
        True when building again would change nothing.
    """
    run = RunDir.open(run_dir)
    if not run.report_is_intact():
        return False
    report = run.report_path
    try:
        with report.open("rb") as stream:
            head = stream.read(4096)
    except OSError:
        return False
    return f'name="{MARK}" content="{state_of(read_inputs(run_dir), reveal=reveal)}"'.encode() in head


def state_of(inputs: RunInputs, *, reveal: bool) -> str:
    """Digest of the run's tables, the page's own files, the version, and whether texts are shown."""
    own = "".join(digest(asset(name)) for name in ASSETS)
    return hashlib.sha256(f"{inputs.digest} {version('refusal-lens')} {own} {reveal}".encode()).hexdigest()


def digest(script: str) -> str:
    """SHA-256 of a text in the form that a content security policy takes."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def asset(name: str) -> str:
    """One of the page's own files."""
    return files("refusal_lens.report").joinpath("assets", name).read_text(encoding="utf-8")
