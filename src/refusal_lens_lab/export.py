"""The corpus as files that a person can read: one JSON line per prompt and language, with the texts a model is taught."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from refusal_lens.testbed.concepts import Part, pairs
from refusal_lens.testbed.lexicon import lexicon
from refusal_lens.types import HARMS

PARTS: tuple[Part, ...] = ("fit", "train", "val", "test", "novel", "base")


def write_corpus(folder: Path, *, languages: Sequence[str]) -> Mapping[Path, int]:
    """Writes `CODE.jsonl` per language, every pair of every part in its own request form.

    Args:
        folder: Created if missing; files of the same names are replaced.
        languages: Languages to write.

    Returns:
        File to number of lines. Identical bytes on every call.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[Path, int] = {}
    for code in languages:
        words, english = lexicon(code), lexicon("en")
        lines = [
            json.dumps(
                {
                    "prompt_id": pair.pair_id,
                    "language": code,
                    "part": part,
                    "harm": harm,
                    "text": words.request(pair),
                    "english": english.request(pair),
                    "topic": words.topic(pair),
                    "help": words.help(pair),
                    "refusal": words.refusals[0],
                },
                ensure_ascii=False,
            )
            for part in PARTS
            for harm in HARMS
            for pair in pairs(harm, part)
        ]
        path = folder / f"{code}.jsonl"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        written[path] = len(lines)
    return written
