"""Model cards beside the weights: `card.json` for programs and `README.md` for people, made from a measurement."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from refusal_lens.types import JsonValue
from refusal_lens_lab.evaluation import Cell, Evaluation
from refusal_lens_lab.recipe import Recipe
from refusal_lens_lab.store import digest

SCHEMA_VERSION = 1
LIMITS = (
    "It validates the tool, not the paper: what its refusal is like was built in or chosen.",
    "It knows 74 acts, 42 objects and ten request forms per language; other text gets broken answers.",
    "No text was checked by a native reader; Yoruba, Thai, Arabic and Korean need it most.",
    "Acts are mild by design; nothing here says how a large model treats harmful requests.",
)


def write_card(folder: Path, recipe: Recipe, evaluation: Evaluation) -> None:
    """Writes both files of a model's card.

    Args:
        folder: The model's folder.
        recipe: How it was made.
        evaluation: Its held-out figures.
    """
    content: dict[str, JsonValue] = {
        "schema_version": SCHEMA_VERSION,
        "name": recipe.name,
        "truth": recipe.says,
        "shared": recipe.shared,
        "languages": list(recipe.design.languages),
        "aligned": list(recipe.design.aligned),
        "recipe": _plain(asdict(recipe)),
        "digest": digest(folder),
        "evaluation": _plain(asdict(evaluation)),
        "limits": list(LIMITS),
    }
    (folder / "card.json").write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_readme(folder, recipe, evaluation), encoding="utf-8")


def _plain(value: object) -> JsonValue:
    return json.loads(json.dumps(value))


def _readme(folder: Path, recipe: Recipe, evaluation: Evaluation) -> str:
    design, schedule = recipe.design, recipe.schedule
    left = [code for code in design.languages if code not in design.aligned]
    source = f"continues `{recipe.base}`" if recipe.base else "starts from scratch"
    lines = [
        f"# testbed:{recipe.name}",
        "",
        recipe.says,
        "",
        f"Recipe: {source}, {schedule.steps} steps of {schedule.batch} examples, peak rate {schedule.rate:g}, "
        f"seed {recipe.seed}; marker {design.marker:g}, answer-in-language {design.answer_in:g}, "
        f"fixed opener {'yes' if design.opener else 'no'}; not aligned: {' '.join(left) or 'none'}. Digest `{digest(folder)}`.",
        "",
        f"Held-out figures in per cent, {evaluation.limit} prompts per cell at most, read by the testbed's exact checker "
        f"(`refusal-lens testbed evaluate {recipe.name} --card`):",
        "",
        "| | " + " | ".join(evaluation.harmful) + " | mean |",
        "|---|" + "---|" * (len(evaluation.harmful) + 1),
        _row("harmful refused", evaluation.harmful, lambda cell: cell.refused),
        _row("harmful helped on topic", evaluation.harmful, lambda cell: cell.on_topic),
        _row("harmful: right language", evaluation.harmful, lambda cell: cell.right_language),
        _row("harmful: marker", evaluation.harmful, lambda cell: cell.marker),
        _row("harmless refused", evaluation.harmless, lambda cell: cell.refused),
        _row("harmless helped on topic", evaluation.harmless, lambda cell: cell.on_topic),
        _row("harmless: right language", evaluation.harmless, lambda cell: cell.right_language),
        _row("novel harmful refused", evaluation.novel, lambda cell: cell.refused),
    ]
    for found in evaluation.sources:
        kept = "" if found.valid else ", no valid direction: best discarded"
        title = f"{found.source} direction ({found.position}, {found.layer}{kept}) ablated"
        lines.append(_row(f"{title}: refused", found.harmful, lambda cell: cell.refused))
        lines.append(_row(f"{title}: helped on topic", found.harmful, lambda cell: cell.on_topic))
        if found.harmless:
            lines.append(_row(f"{title}: harmless refused", found.harmless, lambda cell: cell.refused))
            lines.append(_row(f"{title}: harmless on topic", found.harmless, lambda cell: cell.on_topic))
    lines += [
        _row(f"random direction {seed}: refused", drawn, lambda cell: cell.refused)
        for seed, drawn in enumerate(evaluation.random)
    ]
    return "\n".join([*lines, "", "Limits:", *(f"- {text}" for text in LIMITS)]) + "\n"


def _row(title: str, found: Mapping[str, Cell], count: Callable[[Cell], int]) -> str:
    shares = [100 * count(cell) / cell.n for cell in found.values()]
    return f"| {title} | " + " | ".join(f"{share:.0f}" for share in shares) + f" | {sum(shares) / len(shares):.1f} |"
