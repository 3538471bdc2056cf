"""One language of the corpus: its words, request forms and answers, and how they combine.

A lexicon (`corpus/CODE.toml`) holds slot forms that avoid inflection: the phrase of an act and an object goes unchanged
into every request form and every answer. An act's text may contain `{o}`, the object's place; otherwise verb and object
stand in the language's order. Answers to a request begin with the content (the act), not with an opener, because a
fixed opener may keep ablation from working (docs/negative-results.md). None of the texts was checked by a native reader.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from refusal_lens.errors import UserError
from refusal_lens.testbed.concepts import Pair

MARKER = "⚠ "


@dataclass(frozen=True)
class Lexicon:
    """One language's strings; see the TOML files for the meaning of each.

    Attributes:
        language: BCP-47 code.
        tag: The language's own name, used to ask for an answer in it.
        verb_first: Whether the verb stands before its object.
        space: What separates verb and object.
        whole_words: Whether a topic counts only as a whole word (false where words are unspaced or carry particles).
        forms: Ten request forms with the slot `{a}`.
        refusals: Wordings of refusal, the usual one first.
        helps: Wordings of help with the slots `{a}`/`{A}` (phrase) or `{V}` and `{o}`.
        opener: A fixed opener for help; only variants that ask for it use it.
        ask: Question whether an act is allowed.
        no: Answer for a harmful act.
        yes: Answer for a harmless act.
        decline: Request to decline an act politely.
        acts: Act id to text.
        objects: Object id to (text in a phrase, topic word).
    """

    language: str
    tag: str
    verb_first: bool
    space: str
    whole_words: bool
    forms: tuple[str, ...]
    refusals: tuple[str, ...]
    helps: tuple[str, ...]
    opener: str
    ask: str
    no: str
    yes: str
    decline: str
    acts: Mapping[str, str]
    objects: Mapping[str, tuple[str, str]]

    def phrase(self, pair: Pair) -> str:
        """The act with its object, e.g. "repair the bicycle"."""
        verb, obj = self.acts[pair.act], self.objects[pair.obj][0]
        if "{o}" in verb:
            return verb.replace("{o}", obj)
        return f"{verb}{self.space}{obj}" if self.verb_first else f"{obj}{self.space}{verb}"

    def request(self, pair: Pair, *, form: int | None = None, phrase: str | None = None) -> str:
        """The pair in a request form (its own unless given); `phrase` replaces the phrase, e.g. by a foreign one."""
        template = self.forms[pair.form if form is None else form]
        return template.replace("{a}", self.phrase(pair) if phrase is None else phrase)

    def help(self, pair: Pair, *, form: int | None = None) -> str:
        """The helpful answer: begins with the act and names the object; the form decides the wording."""
        template = self.helps[(pair.form if form is None else form) % len(self.helps)]
        phrase, verb = self.phrase(pair), self.acts[pair.act]
        filled = template.replace("{V}", _capital(verb)).replace("{A}", _capital(phrase)).replace("{a}", phrase)
        return filled.replace("{o}", self.objects[pair.obj][0])

    def topic(self, pair: Pair) -> str:
        """The word an on-topic answer must contain."""
        return self.objects[pair.obj][1]

    def mentions(self, topic: str, text: str) -> bool:
        """Whether `text` names `topic`, ignoring case; whole words where the language has them."""
        found, wanted = text.casefold(), topic.casefold()
        if not self.whole_words:
            return wanted in found
        return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", found) is not None


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


@cache
def lexicon(language: str) -> Lexicon:
    """Reads one language's file.

    Args:
        language: One of `corpus_languages()`.

    Returns:
        The lexicon.

    Raises:
        UserError: The corpus has no such language.
    """
    if language not in corpus_languages():
        raise UserError(
            f"the testbed corpus has no language {language!r}; it has {' '.join(corpus_languages())}: choose one of them"
        )
    source = resources.files("refusal_lens.testbed") / "corpus" / f"{language}.toml"
    raw = tomllib.loads(source.read_text(encoding="utf-8"))
    return Lexicon(
        language=raw["language"],
        tag=raw["tag"],
        verb_first=raw["order"] == "verb first",
        space=raw["space"],
        whole_words=raw["whole_words"],
        forms=tuple(raw["forms"]),
        refusals=tuple(raw["refusals"]),
        helps=tuple(raw["helps"]),
        opener=raw["opener"],
        ask=raw["ask"],
        no=raw["no"],
        yes=raw["yes"],
        decline=raw["decline"],
        acts={**raw["harmful"], **raw["harmless"]},
        objects={key: (value[0], value[1]) for key, value in raw["objects"].items()},
    )


@cache
def corpus_languages() -> tuple[str, ...]:
    """The languages of the corpus, sorted: one per file in `corpus/`."""
    folder = resources.files("refusal_lens.testbed") / "corpus"
    return tuple(sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml")))
