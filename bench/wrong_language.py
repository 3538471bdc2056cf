"""What `data check` makes of prompts in the wrong file: `python -m bench.wrong_language FOLDER [--every N]`.

Every prompt of at least 12 letters is put into the file of each other language; a minute for the published folder. Then
the short answers of `tests/data/judging_unlisted.jsonl`, each as a prompt in its own language, beside all the others'.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

from refusal_lens.prompts.checking.rows import LanguageIdentifier
from refusal_lens.prompts.checking.views import views_of
from refusal_lens.prompts.loading.layout import find_layout
from refusal_lens.prompts.loading.texts import row_fault

LONG, SHORT = 12, 40
ANSWERS = Path(__file__).parents[1] / "tests" / "data" / "judging_unlisted.jsonl"


def main() -> None:
    """Print how many are named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="of each language only every n-th prompt is planted")
    given = parser.parse_args()
    texts: dict[str, list[str]] = defaultdict(list)
    for view in views_of(find_layout(given.folder)):
        texts[view.cell.language] += [
            text for text, row in zip(view.texts, view.rows, strict=True) if row_fault(row.text) is None
        ]
    identifier = LanguageIdentifier(sorted(texts))
    own = sum(len(identifier.wrong(prompts, language)) for language, prompts in texts.items())
    print(f"in their own file: {own} of {sum(map(len, texts.values()))} named")
    for name, limit in (("all", 10**9), (f"below {SHORT} letters", SHORT)):
        planted = {
            code: [text for text in prompts[:: given.every] if LONG <= sum(map(str.isalpha, text)) < limit]
            for code, prompts in texts.items()
        }
        named = sum(
            len(identifier.wrong(prompts, other))
            for code, prompts in planted.items()
            for other in texts
            if other != code
        )
        total = sum(map(len, planted.values())) * (len(texts) - 1)
        print(f"in another's file, {name}: {named} of {total} named ({named / total:.2%})")
    answers = [json.loads(line) for line in ANSWERS.read_text(encoding="utf-8").splitlines()]
    further = LanguageIdentifier(sorted({*texts, *(answer["lang"] for answer in answers)}))
    asked = [a for a in answers if further.knows(a["lang"]) and sum(map(str.isalpha, a["text"])) >= LONG]
    wrong = sum(len(further.wrong([answer["text"]], answer["lang"])) for answer in asked)
    languages = len({answer["lang"] for answer in asked})
    print(f"answers in {languages} further languages: {wrong} of {len(asked)} named")


if __name__ == "__main__":
    main()
