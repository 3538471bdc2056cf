"""What the site takes from the code when it is built: the tables' columns, the list of decisions, links out of docs/."""

from __future__ import annotations

import re
from pathlib import Path

from refusal_lens.core.bench_tables import BENCH, BENCH_PAIRED, BENCH_SELECTIVITY
from refusal_lens.core.monitor_tables import CURVES, MONITOR
from refusal_lens.core.tables import TABLES

ROOT = Path(__file__).parent.parent
NAMES = {str: "text", int: "integer", float: "number", bool: "yes or no"}


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Fill the two generated pages; links to files outside docs/ become plain names, since the site has no such pages."""
    if page.file.src_uri == "tables.md":
        markdown += "\n".join(["", *_tables()])
    if page.file.src_uri == "decisions/index.md":
        markdown += "\n".join(["", *_decisions()])
    return re.sub(r"\[([^\]]+)\]\(\.\./(?!\w+\.md)[^)]*\)", r"\1", markdown)


def _tables() -> list[str]:
    lines: list[str] = []
    beside = (BENCH, BENCH_SELECTIVITY, BENCH_PAIRED, MONITOR, CURVES)  # of `defence-bench` and `monitor evaluate`
    for name, table in {**TABLES, **{table.name: table for table in beside}}.items():
        lines += [
            f"## {name}",
            "",
            (table.row.__doc__ or "").strip(),
            "",
            "| column | type | what it holds |",
            "|---|---|---|",
        ]
        for column in table.described:
            kind = NAMES[column.type] + (" or null" if column.nullable else "")
            lines.append(f"| `{column.name}` | {kind} | {column.doc} |")
        lines.append("")
    return lines


def _decisions() -> list[str]:
    found = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    titles = [(file.name, file.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")) for file in found]
    return [f"- [{title}]({name})" for name, title in titles]
