"""What goes into a gate and comes out of it as text: limits from a command line; JUnit XML, Markdown, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from xml.etree import ElementTree

from refusal_lens.errors import UserError
from refusal_lens.measure.gate import EVERY
from refusal_lens.measure.gate_cells import Check

NUMBERS = frozenset({"value", "limit", "low", "high", "n", "unscored", "needed"})
"""What of a check stands in JUnit as properties."""


def parse_limits(text: str) -> dict[str, float]:
    """Limits by language from the command line.

    Args:
        text: `en=0.05,de=0.10`, or one number for every language.

    Returns:
        Limit by language; one number is under "all".

    Raises:
        UserError: Not of that form, or a limit outside [0, 1].
    """
    limits: dict[str, float] = {}
    for part in (piece.strip() for piece in text.split(",") if piece.strip()):
        name, equals, number = part.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            raise UserError(
                f"limit {part!r}: write LANGUAGE=SHARE, e.g. en=0.05,de=0.10, or one share as 0.10"
            ) from None
        if not 0 <= value <= 1:
            raise UserError(f"limit {part!r}: a share lies between 0 and 1")
        limits[name.strip() if equals else EVERY] = value
    if not limits:
        raise UserError(f"no limit in {text!r}: write LANGUAGE=SHARE, e.g. en=0.05,de=0.10")
    return limits


def standing(checks: Iterable[Check], *, allow_undecided: bool = False) -> list[Check]:
    """The checks that stop a release.

    Args:
        checks: From `run_gate`.
        allow_undecided: Excuse cells that are undecided for want of prompts alone; never those that unjudged answers or an
            untrusted judge leave undecided.

    Returns:
        Those that fail or are undecided, without the excused ones.
    """
    return [
        check
        for check in checks
        if check.status != "pass" and not (allow_undecided and check.status == "undecided" and not check.blocked)
    ]


def as_json(checks: Iterable[Check], *, allow_undecided: bool = False) -> str:
    """The checks as one JSON object.

    Args:
        checks: From `run_gate`.
        allow_undecided: See `standing`.

    Returns:
        `{"passed": .., "status": "pass|fail|undecided", "checks": [{name, passed, status, message, value, limit, ..}]}`.
    """
    listed = list(checks)
    found = {check.status for check in listed}
    status = "fail" if "fail" in found else "undecided" if "undecided" in found else "pass"
    passed = not standing(listed, allow_undecided=allow_undecided)
    report = {"schema_version": 1, "passed": passed, "status": status, "checks": [asdict(check) for check in listed]}
    return json.dumps(report, ensure_ascii=False, indent=1)


def junit(checks: Iterable[Check], *, suite: str, allow_undecided: bool = False) -> str:
    """The checks as JUnit XML, for CI systems, each with its numbers as properties; an excused cell is skipped.

    Args:
        checks: From `run_gate`.
        suite: Name of the test suite, e.g. the run.
        allow_undecided: See `standing`.

    Returns:
        An XML document.
    """
    listed = list(checks)
    stopping = {check.name for check in standing(listed, allow_undecided=allow_undecided)}
    root = ElementTree.Element("testsuites", tests=str(len(listed)), failures=str(len(stopping)))
    node = ElementTree.SubElement(
        root, "testsuite", name=suite, tests=str(len(listed)), failures=str(len(stopping)), errors="0"
    )
    for check in listed:
        case = ElementTree.SubElement(node, "testcase", classname="refusal-lens.gate", name=check.name)
        properties = ElementTree.SubElement(case, "properties")
        for name, value in asdict(check).items():
            if name in NUMBERS and value is not None:
                ElementTree.SubElement(properties, "property", name=name, value=str(value))
        if check.name in stopping:
            ElementTree.SubElement(case, "failure", type=check.status, message=check.message)
        elif check.status != "pass":
            ElementTree.SubElement(case, "skipped", message=check.message)
        else:
            ElementTree.SubElement(case, "system-out").text = check.message
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def markdown(checks: Iterable[Check], *, suite: str, allow_undecided: bool = False) -> str:
    """The checks as a Markdown table, for a job's summary page: those that stop the release first.

    Args:
        checks: From `run_gate`.
        suite: Heading, e.g. the run.
        allow_undecided: See `standing`.

    Returns:
        A heading with the outcome and one table row a check.
    """
    listed = list(checks)
    stopping = {check.name for check in standing(listed, allow_undecided=allow_undecided)}
    outcome = f"{len(stopping)} of {len(listed)} checks stop the release" if stopping else "every check passed"
    lines = [f"### Gate {_cell(suite)}: {outcome}", "", "| check | status | what was measured |", "|---|---|---|"]
    for check in sorted(listed, key=lambda check: check.name not in stopping):
        lines.append(f"| {_cell(check.name)} | {check.status} | {_cell(check.message)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text of a run inside a Markdown table: one line, no markup."""
    for mark in "\\`*_<>|[]":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
