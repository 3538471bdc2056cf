"""One defence on test prompts, without an attacker: what it changes in every language, paired by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refusal_lens.core.bench_tables import BenchPairedRow
from refusal_lens.defences.bench_rows import UNDEFENDED, BenchCell, bench_paired_rows
from refusal_lens.defences.face import Defence
from refusal_lens.defences.reading import answered
from refusal_lens.model import LensModel
from refusal_lens.types import Prompt


def measure_defence(
    model: LensModel,
    defence: Defence | LensModel,
    test: Mapping[str, Sequence[Prompt]],
    *,
    tokens: int,
    name: str | None = None,
) -> list[BenchPairedRow]:
    """Refusal before and after, per language and class.

    Args:
        model: The undefended model.
        defence: A gate or map on it, or hardened weights.
        test: Test prompts by language.
        tokens: Length limit of an answer.
        name: Of the defence, in the rows.

    Returns:
        Rows of the table `bench_paired`.
    """
    items = [item for part in test.values() for item in part]
    texts, languages = [item.text for item in items], [item.language for item in items]
    keys = [(item.language, item.harm, item.prompt_id) for item in items]
    before = answered(model, texts, languages, tokens=tokens)
    if isinstance(defence, LensModel):
        after = answered(defence, texts, languages, tokens=tokens)
        title = name or "hardened"
    else:
        after = answered(model, texts, languages, interventions=[defence.intervene(model, texts)], tokens=tokens)
        title = name or defence.card.method
    cells = [
        BenchCell(UNDEFENDED, "none", dict(zip(keys, before, strict=True))),
        BenchCell(title, "none", dict(zip(keys, after, strict=True))),
    ]
    return bench_paired_rows(cells)
