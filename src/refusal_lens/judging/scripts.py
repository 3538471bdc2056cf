"""Which script a text is written in: letters counted by Unicode range, in the names of ISO 15924.

Japanese is told from Chinese by its kana: Han letters with a share of kana are `Jpan`, without them `Hani`. One Han letter
says about as much as two or three letters of an alphabet, one Korean syllable as much as two, and they are weighed so.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

# Unicode ranges of the scripts by ISO 15924 code; Jpan and Kore are Han plus their own letters.
_RANGES = {
    "Latn": "A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff",
    "Cyrl": "\u0400-\u052f",
    "Grek": "\u0370-\u03ff",
    "Hebr": "\u0590-\u05ff",
    "Arab": "\u0600-\u06ff\u0750-\u077f",
    "Deva": "\u0900-\u097f",
    "Beng": "\u0980-\u09ff",
    "Taml": "\u0b80-\u0bff",
    "Thai": "\u0e00-\u0e7f",
    "Hang": "\u1100-\u11ff\uac00-\ud7af",
    "Kana": "\u3040-\u30ff",
    "Hani": "\u3400-\u4dbf\u4e00-\u9fff",
}
_OTHER = "Zyyy"  # letters of a script without an entry above: Georgian, Telugu, Khmer, Amharic ...


class _Scripts(dict[str, str]):
    """From a character to its script, "" for none, computed on first use."""

    def __missing__(self, character: str) -> str:
        script = next((script for script, pattern in _PATTERNS.items() if pattern.match(character)), "")
        if not script and unicodedata.category(character)[0] == "L":
            script = _OTHER
        self[character] = script
        return script


_PATTERNS = {script: re.compile(f"[{letters}]") for script, letters in _RANGES.items()}
_SCRIPTS = _Scripts()
_BEYOND_LATIN = re.compile(
    "[\u0370-\u1dff\u1f00-\u1fff\u2c00-\u2fff\u3040-\ud7ff\uf900-\ufdff\ufe70-\ufefe\uff10-\uffdc\U00020000-\U0003ffff]"
)
_KANA_SHARE = 0.06


def count_scripts(text: str) -> Counter[str]:
    """Letters by script; a text of Latin letters alone, the usual case, is not looked at letter by letter."""
    if _BEYOND_LATIN.search(text) is None:
        letters = sum(map(str.isalpha, text))
        return Counter({"Latn": letters}) if letters else Counter()
    counts: Counter[str] = Counter()
    for character, n in Counter(text).items():
        counts[_SCRIPTS[character]] += n
    del counts[""]
    return counts


def dominant(counts: Counter[str]) -> str:
    """The script that most of a text is written in."""
    if counts.keys() == {"Latn"}:
        return "Latn"
    east = counts["Hani"] + counts["Kana"]
    merged = Counter({script: n for script, n in counts.items() if script not in {"Hani", "Kana"}})
    if east:
        # One Han character says about as much as two or three letters.
        merged["Jpan" if counts["Kana"] >= _KANA_SHARE * east else "Hani"] = 2 * east
    if merged["Hang"]:
        merged["Hang"] *= 2
    return merged.most_common(1)[0][0]
