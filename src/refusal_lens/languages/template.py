"""A language file for a language RefusalLens has none for, from a template: valid, and honest about what it lacks.

Names, script and direction come from CLDR (through Babel); for a language CLDR does not know, script, direction and word
spacing are read off texts in it, and the code stands for the names. Phrases are for a person to write: until they are,
the native judge reads answers in this language with English phrases only, and `refusal-lens doctor` says so.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence

_SCRIPTS = {
    "ARABIC": "Arab", "ARMENIAN": "Armn", "BENGALI": "Beng", "CJK": "Hani", "CYRILLIC": "Cyrl", "DEVANAGARI": "Deva",
    "ETHIOPIC": "Ethi", "GEORGIAN": "Geor", "GREEK": "Grek", "GUJARATI": "Gujr", "GURMUKHI": "Guru", "HANGUL": "Hang",
    "HEBREW": "Hebr", "HIRAGANA": "Jpan", "KANNADA": "Knda", "KHMER": "Khmr", "LAO": "Laoo", "LATIN": "Latn",
    "MALAYALAM": "Mlym", "MYANMAR": "Mymr", "ORIYA": "Orya", "SINHALA": "Sinh", "TAMIL": "Taml", "TELUGU": "Telu",
    "THAI": "Thai", "TIBETAN": "Tibt",
}  # fmt: skip
"""First word of a letter's Unicode name -> ISO 15924 code."""

_UNSPACED = frozenset({"Thai", "Laoo", "Khmr", "Mymr", "Tibt", "Hani", "Hans", "Hant", "Jpan"})


def english_name(code: str) -> str | None:
    """The English name of a language, None where CLDR has none.

    Args:
        code: BCP-47 code, in any case.

    Returns:
        For example "Hindi" for "hi", "Brazilian Portuguese" for "pt-BR".
    """
    from babel import Locale  # 30 ms that a run without a new language need not wait for

    names = Locale("en").languages
    language, _, rest = code.replace("_", "-").partition("-")
    return names.get(f"{language.lower()}_{rest.upper()}") or names.get(language.lower())


def base_code(code: str) -> str:
    """The language of a code by one name, whatever its script, region or number of letters.

    Args:
        code: BCP-47 code, or one of a translation model: "deu_Latn", "de_DE".

    Returns:
        ISO 639: two letters where there are two; "no" for Bokmål, as which models know Norwegian.

    Example:
        >>> base_code("pes_Arab"), base_code("cmn"), base_code("nob"), base_code("pt-BR")
        ('fa', 'zh', 'no', 'pt')
    """
    from babel.core import get_global

    language = code.replace("-", "_").partition("_")[0].lower()
    short = str(get_global("language_aliases").get(language, language)).partition("_")[0]
    return {"nb": "no"}.get(short, short)


def likely_script(code: str) -> str:
    """The script that a language is written in, as ISO 15924 ("Deva" for "hi"); empty where CLDR does not say."""
    from babel.core import get_global

    likely = str(get_global("likely_subtags").get(code.replace("-", "_").partition("_")[0].lower(), "")).split("_")
    return likely[1] if len(likely) > 1 else ""


def language_file(code: str, texts: Sequence[str] = ()) -> str:
    """A language file's text.

    Args:
        code: BCP-47 code.
        texts: Texts in the language, where there are some.

    Returns:
        TOML that the language loader accepts.

    Example:
        >>> print(language_file("hi").splitlines()[6])
        script = "Deva"
    """
    from babel import Locale, UnknownLocaleError

    letters = [character for text in texts for character in text if character.isalpha()]
    scripts = Counter(unicodedata.name(letter, "UNKNOWN").split()[0] for letter in letters)
    base = code.partition("-")[0].lower()
    script = _SCRIPTS.get(scripts.most_common(1)[0][0], "Zyyy") if scripts else likely_script(base) or "Zyyy"
    right_to_left = sum(unicodedata.bidirectional(letter) in {"R", "AL"} for letter in letters) > len(letters) / 2
    name = english = english_name(code) or code
    try:
        locale = Locale.parse(base)
    except (UnknownLocaleError, ValueError):
        pass
    else:
        name = locale.get_display_name() or name
        right_to_left = right_to_left or (not letters and locale.text_direction == "rtl")
    return f"""# Written from the template by `refusal-lens`: look at the names and the tier, and write the refusal phrases.
# Format and groups: docs/adding-a-language.md. Until phrases are here, answers are judged with English phrases only.
schema_version = 1
code = {json.dumps(code)}
name = {json.dumps(name, ensure_ascii=False)}
english_name = {json.dumps(english, ensure_ascii=False)}
script = "{script}"
direction = "{"rtl" if right_to_left else "ltr"}"
tier = "low"
spaced = {"false" if script in _UNSPACED else "true"}
provenance = "template: no refusal phrases yet, not seen by a native reader"

[phrases]
"""
