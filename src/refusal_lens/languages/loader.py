"""Load the language files: the shipped ones beside this module, then a user's folder, whose files add or replace.

The user's folder is named by the environment variable REFUSAL_LENS_LANGUAGES. Adding a language is adding one TOML
file (docs/adding-a-language.md). Loaded once per folder and process; the result is read-only.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from refusal_lens.errors import UserError
from refusal_lens.languages.language import Language, parse_language
from refusal_lens.languages.template import english_name

USER_FOLDER_VARIABLE = "REFUSAL_LENS_LANGUAGES"
SHIPPED = Path(__file__).parent


def load_languages() -> Mapping[str, Language]:
    """All known languages by code, sorted by code.

    Returns:
        Read-only mapping from BCP-47 code to language.

    Raises:
        UserError: The user's language folder does not exist, or a file in it is at fault.
    """
    return _load(os.environ.get(USER_FOLDER_VARIABLE) or None)


def shipped_languages() -> Mapping[str, Language]:
    """The languages that come with the package, whatever the user's folder holds."""
    return _load(None)


def get_language(code: str) -> Language:
    """One language by its code.

    Args:
        code: BCP-47 code, in any case.

    Returns:
        The language.

    Raises:
        UserError: No such language; the message says how to add it, or which one was meant, and names all known codes.
    """
    languages = load_languages()
    wanted = code.strip().lower()
    for key, language in languages.items():
        if key.lower() == wanted:
            return language
    raise UserError(f"unknown language {code!r}; {_advice(code.strip(), languages)}known codes: {', '.join(languages)}")


def _advice(code: str, languages: Mapping[str, Language]) -> str:
    """What to do about a language without a file; a code is never taken for another one that merely looks like it."""
    base = code.replace("_", "-").partition("-")[0].lower()
    if base in languages:
        return f"did you mean {base!r}? "
    name = english_name(code)
    if name is not None:
        return f"no file for {name} yet: `refusal-lens language new {code}`; "
    by_name = {language.english_name.lower(): key for key, language in languages.items()}
    near = difflib.get_close_matches(code.lower(), by_name, n=1, cutoff=0.6)
    return f"did you mean {by_name[near[0]]!r}? " if near else ""


def resolve_languages(text: str) -> tuple[str, ...]:
    """Read a user's list of languages.

    Args:
        text: "all", or codes separated by commas.

    Returns:
        Sorted codes, each once.

    Raises:
        UserError: The list is empty or has an unknown code.
    """
    if text.strip().lower() == "all":
        return tuple(load_languages())
    codes = [part for part in (piece.strip() for piece in text.split(",")) if part]
    if not codes:
        raise UserError(f"no language in {text!r}; give codes separated by commas, or 'all'")
    return tuple(sorted({get_language(code).code for code in codes}))


@lru_cache(maxsize=8)
def _load(user_folder: str | None) -> Mapping[str, Language]:
    folders = [SHIPPED]
    if user_folder is not None:
        folder = Path(user_folder)
        if not folder.is_dir():
            raise UserError(
                f"{USER_FOLDER_VARIABLE}={user_folder!r} is not a folder; unset it or name a folder of .toml files"
            )
        folders.append(folder)
    found: dict[str, Language] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.toml")):
            language = parse_language(path.read_bytes(), origin=str(path))
            found[language.code] = language
    return MappingProxyType({code: found[code] for code in sorted(found)})
