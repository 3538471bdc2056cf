"""One language as data: the `Language` record and its parser from a TOML file.

A language file is data written by people, so the parser checks all of it and names the file and the field at fault.
It knows nothing of matching: what a phrase means as a pattern is decided in `refusal_lens.judging.patterns`.

Resource tiers follow the classes of Joshi et al. 2020 ("The State and Fate of Linguistic Diversity"):
high = class 5, medium = classes 4 and 3, low = 2 and below.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

from refusal_lens.errors import DataError

SCHEMA_VERSION = 1

Direction: TypeAlias = Literal["ltr", "rtl"]
Tier: TypeAlias = Literal["high", "medium", "low"]
PhraseGroup: TypeAlias = Literal[
    "inability",
    "decline",
    "cannot",
    "discourage",
    "identity",
    "apology",
    "policy",
    "harm",
    "advice_against",
    "consequence",
    "empathy",
    "crisis",
    "redirect",
    "correction",
    "values",
    "constructive",
    "caution",
    "compliance",
    "pivot",
    "artefact",
    "statute",
    "benign",
]

PHRASE_GROUPS: tuple[PhraseGroup, ...] = get_args(PhraseGroup)


@dataclass(frozen=True, slots=True)
class RefusalPhrases:
    """How refusals and compliances are worded in one language: phrase patterns by group.

    Attributes:
        inability: The speaker cannot do it ("I can't help", "I am not able to").
        decline: The speaker will not do it, or says that the request is refused ("I won't", "I must decline").
        cannot: It cannot be done, without saying who cannot ("that is not possible", "no answer can be given"; in languages
            that leave the subject out, any "cannot"). Weaker than `inability`.
        discourage: The speaker does not recommend it: a refusal beside a named wrong, otherwise advice. Takes the place of
            a `decline` at the same words.
        identity: The speaker explains what it is or is for ("as an AI", "my purpose is to be helpful and harmless").
        apology: "I'm sorry". Alone it is no refusal.
        policy: The thing asked for is illegal, unethical, not acceptable.
        harm: It is dangerous, hateful, false or baseless.
        advice_against: The reader is told not to do it.
        consequence: What would follow: penalties, harm to others.
        empathy: "I understand that you feel ...", "I'm sorry to hear ...".
        crisis: Help lines and words of a suicide crisis.
        redirect: Another offer: help, a professional, lawful ways.
        correction: What was asked for is untrue or must be seen otherwise ("there is no evidence", "I must emphasize").
        values: An appeal to what is right: respect, honesty, dignity, equality, safety, the truth, the law.
        constructive: Harmless alternatives or reasons instead ("safer ways", "here is why", "points to consider").
        caution: "It is important to ...", "please", "let us": said before refusing and before good advice alike.
        compliance: The answer begins to deliver ("Here is", "Sure", "Step 1").
        pivot: From warning to delivering ("nevertheless", "however, here is", "for educational purposes").
        artefact: The answer is itself the text asked for: a letter, a titled article, code. Its words are not the speaker's.
        statute: The law is reported, not invoked ("penal code", "up to five years", "Article 5").
        benign: Wordings that look like a refusal and are none ("I can't wait"); taken out before matching.
    """

    inability: tuple[str, ...] = ()
    decline: tuple[str, ...] = ()
    cannot: tuple[str, ...] = ()
    discourage: tuple[str, ...] = ()
    identity: tuple[str, ...] = ()
    apology: tuple[str, ...] = ()
    policy: tuple[str, ...] = ()
    harm: tuple[str, ...] = ()
    advice_against: tuple[str, ...] = ()
    consequence: tuple[str, ...] = ()
    empathy: tuple[str, ...] = ()
    crisis: tuple[str, ...] = ()
    redirect: tuple[str, ...] = ()
    correction: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    constructive: tuple[str, ...] = ()
    caution: tuple[str, ...] = ()
    compliance: tuple[str, ...] = ()
    pivot: tuple[str, ...] = ()
    artefact: tuple[str, ...] = ()
    statute: tuple[str, ...] = ()
    benign: tuple[str, ...] = ()

    def group(self, name: PhraseGroup) -> tuple[str, ...]:
        """Patterns of one group."""
        return cast("tuple[str, ...]", getattr(self, name))


@dataclass(frozen=True, slots=True)
class Language:
    """One language an audit can be run in.

    Attributes:
        code: BCP-47 code.
        name: The language's own name.
        english_name: Its name in English.
        script: ISO 15924 code of the script it is written in.
        direction: Writing direction.
        tier: Resource tier (Joshi et al. 2020).
        spaced: Words are separated by spaces.
        phrases: How refusals are worded.
        provenance: Who wrote the phrases, and whether a native reader checked them.
        common_words: Frequent function words, for a cheap check that a text is in this language.
        spellings: How a piece of a phrase is also written: typing errors in the negation, contractions, colloquial forms.
            The key is a piece of a phrase, the value a pattern that matches all its spellings.
        negations: Patterns of words that negate: an answer of a few words with one, or one that ends in a sentence with one, in
            which no refusal was found, is uncertain.
        adversatives: Patterns of "but" and "however": what follows "I cannot .., but" may be help, so it is uncertain.
        word_prefixes: Particles written together with the word that follows (Arabic "and", "so").
        match_inside_words: Phrases may start inside a word: no spaces between words, or words compounded freely.
        digest: SHA-256 of the language file's bytes.
    """

    code: str
    name: str
    english_name: str
    script: str
    direction: Direction
    tier: Tier
    spaced: bool
    phrases: RefusalPhrases
    provenance: str
    common_words: frozenset[str] = frozenset()
    negations: tuple[str, ...] = ()
    adversatives: tuple[str, ...] = ()
    word_prefixes: tuple[str, ...] = ()
    spellings: tuple[tuple[str, str], ...] = ()
    match_inside_words: bool = False
    digest: str = ""

    def __hash__(self) -> int:
        """Cheap and stable: languages are keys of caches; equality still compares everything."""
        return hash((self.code, self.digest))


def parse_language(content: bytes, *, origin: str) -> Language:
    """Read one language file.

    Args:
        content: Bytes of the TOML file.
        origin: Name of the file, for messages.

    Returns:
        The language.

    Raises:
        DataError: A field is missing, unknown or of the wrong kind; the message names file and field.
    """
    try:
        table: dict[str, object] = tomllib.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"language file {origin} is not UTF-8 TOML: {error}") from error
    unknown = set(table) - _FIELDS
    if unknown:
        raise DataError(
            f"language file {origin}: unknown field {sorted(unknown)[0]!r}; known: {', '.join(sorted(_FIELDS))}"
        )
    if table.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"language file {origin}: schema_version must be {SCHEMA_VERSION}, found {table.get('schema_version')!r}"
        )
    return Language(
        code=_text(table, "code", origin),
        name=_text(table, "name", origin),
        english_name=_text(table, "english_name", origin),
        script=_text(table, "script", origin),
        direction=cast("Direction", _choice(table, "direction", get_args(Direction), origin)),
        tier=cast("Tier", _choice(table, "tier", get_args(Tier), origin)),
        spaced=_flag(table, "spaced", origin),
        phrases=_phrases(table.get("phrases"), origin),
        provenance=_text(table, "provenance", origin),
        common_words=frozenset(_texts(table.get("common_words", []), "common_words", origin)),
        negations=_texts(table.get("negations", []), "negations", origin),
        adversatives=_texts(table.get("adversatives", []), "adversatives", origin),
        word_prefixes=_texts(table.get("word_prefixes", []), "word_prefixes", origin),
        spellings=_spellings(table.get("spellings", {}), origin),
        match_inside_words=_flag(table, "match_inside_words", origin, default=not _flag(table, "spaced", origin)),
        digest=hashlib.sha256(content).hexdigest(),
    )


_FIELDS = {
    "schema_version",
    "code",
    "name",
    "english_name",
    "script",
    "direction",
    "tier",
    "spaced",
    "provenance",
    "common_words",
    "negations",
    "adversatives",
    "word_prefixes",
    "spellings",
    "match_inside_words",
    "phrases",
}


def _text(table: dict[str, object], field: str, origin: str) -> str:
    value = table.get(field)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"language file {origin}: field {field!r} must be a non-empty string, found {value!r}")
    return value


def _flag(table: dict[str, object], field: str, origin: str, *, default: bool | None = None) -> bool:
    value = table.get(field, default)
    if not isinstance(value, bool):
        raise DataError(f"language file {origin}: field {field!r} must be true or false, found {value!r}")
    return value


def _choice(table: dict[str, object], field: str, choices: tuple[str, ...], origin: str) -> str:
    value = _text(table, field, origin)
    if value not in choices:
        raise DataError(f"language file {origin}: field {field!r} must be one of {', '.join(choices)}, found {value!r}")
    return value


def _texts(value: object, field: str, origin: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise DataError(f"language file {origin}: field {field!r} must be a list of strings, found {value!r}")
    items = cast("list[object]", value)
    for item in items:
        if not isinstance(item, str) or not item.strip():
            raise DataError(f"language file {origin}: field {field!r} must hold non-empty strings only, found {item!r}")
    return tuple(cast("list[str]", items))


def _spellings(value: object, origin: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise DataError(f"language file {origin}: [spellings] must be a table, found {value!r}")
    found = cast("dict[str, object]", value)
    for piece, pattern in found.items():
        if not isinstance(pattern, str) or not pattern.strip() or not piece.strip():
            raise DataError(
                f"language file {origin}: spellings.{piece!r} must be a non-empty string, found {pattern!r}"
            )
    return tuple(cast("dict[str, str]", found).items())


def _phrases(value: object, origin: str) -> RefusalPhrases:
    if not isinstance(value, dict):
        raise DataError(f"language file {origin}: table [phrases] is missing")
    groups = cast("dict[str, object]", value)
    unknown = set(groups) - set(PHRASE_GROUPS)
    if unknown:
        known = ", ".join(PHRASE_GROUPS)
        raise DataError(f"language file {origin}: unknown phrase group {sorted(unknown)[0]!r}; known: {known}")
    return RefusalPhrases(**{name: _texts(items, f"phrases.{name}", origin) for name, items in groups.items()})
