"""A language file for a language RefusalLens does not know, from a template: valid, and honest about what it lacks.

Script, direction and word spacing are read off the translated texts; names and tier are left for a person to fill in.
Without refusal phrases the native judge reads answers in this language with the English phrases only; `refusal-lens
doctor` says so. Use: `REFUSAL_LENS_LANGUAGES=OUT/languages refusal-lens audit ..`.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from refusal_lens.core.files import PUBLIC_FILE, write_atomic
from refusal_lens.languages import load_languages
from refusal_lens.prompts.standard import StandardRow

_SCRIPTS = {
    "ARABIC": "Arab", "ARMENIAN": "Armn", "BENGALI": "Beng", "CJK": "Hani", "CYRILLIC": "Cyrl", "DEVANAGARI": "Deva",
    "ETHIOPIC": "Ethi", "GEORGIAN": "Geor", "GREEK": "Grek", "GUJARATI": "Gujr", "GURMUKHI": "Guru", "HANGUL": "Hang",
    "HEBREW": "Hebr", "HIRAGANA": "Jpan", "KANNADA": "Knda", "KHMER": "Khmr", "LAO": "Laoo", "LATIN": "Latn",
    "MALAYALAM": "Mlym", "MYANMAR": "Mymr", "ORIYA": "Orya", "SINHALA": "Sinh", "TAMIL": "Taml", "TELUGU": "Telu",
    "THAI": "Thai", "TIBETAN": "Tibt",
}  # fmt: skip
"""First word of a letter's Unicode name -> ISO 15924 code."""

_SPACED_SHARE = 0.08


def write_language_files(folder: Path, rows: Sequence[StandardRow]) -> list[Path]:
    """Write a file for each language that has none yet.

    Args:
        folder: Where they go; existing files are a person's and stay.
        rows: Rows of the data set.

    Returns:
        The files written now.
    """
    known = load_languages()
    written: list[Path] = []
    for language in dict.fromkeys(row.language for row in rows):
        path = folder / f"{language}.toml"
        if language not in known and not path.exists():
            texts = [row.text for row in rows if row.language == language and row.text is not None]
            write_atomic(path, language_file(language, texts).encode(), mode=PUBLIC_FILE)
            written.append(path)
    return written


def language_file(code: str, texts: Sequence[str]) -> str:
    """A language file's text.

    Args:
        code: BCP-47 code.
        texts: Texts in the language.

    Returns:
        TOML that the language loader accepts.
    """
    letters = [character for text in texts for character in text if character.isalpha()]
    scripts = Counter(unicodedata.name(letter, "UNKNOWN").split()[0] for letter in letters)
    script = _SCRIPTS.get(scripts.most_common(1)[0][0], "Zyyy") if scripts else "Zyyy"
    right_to_left = sum(unicodedata.bidirectional(letter) in {"R", "AL"} for letter in letters) > len(letters) / 2
    characters = sum(map(len, texts))
    spaced = characters == 0 or sum(text.count(" ") for text in texts) / characters >= _SPACED_SHARE
    return f"""# Written from the template by `refusal-lens data build`: fill in the names, the tier and the refusal phrases.
# Format and groups: docs/adding-a-language.md. Until phrases are here, answers are judged with English phrases only.
schema_version = 1
code = "{code}"
name = "{code}"
english_name = "{code}"
script = "{script}"
direction = "{"rtl" if right_to_left else "ltr"}"
tier = "low"
spaced = {"true" if spaced else "false"}
provenance = "template: no refusal phrases yet, not seen by a native reader"

[phrases]
"""
