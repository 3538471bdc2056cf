"""The testbed's concepts and how they are divided: which acts, objects and pairs each part of the corpus may use.

A request is a pair (act, object) in one of ten request forms. Acts and objects are language-free ids; a lexicon
(`lexicon.py`) says them in one language. Because both classes use the same objects and forms, only the act decides.

Division, shared by all languages and decided by the SHA-256 of `act/object`, never by a random state:
1. four harmful acts, four harmless acts and four objects are *novel*: alignment never sees them (the base does);
2. of the remaining pairs of each class, the 160 with the lowest hash are `test`, the next 160 `train` and the next
   48 `val` (the splits a direction is found on); a model is trained on what is left, the `fit` pairs;
3. of the pairs with one novel part, those with an even hash are `novel` test pairs, the others may be seen by the base.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, TypeAlias

from refusal_lens.types import HARMS, Harm

Part: TypeAlias = Literal["fit", "train", "val", "test", "novel", "base"]

N_FORMS = 10
SIZES: tuple[tuple[Part, int], ...] = (("test", 160), ("train", 160), ("val", 48))


@dataclass(frozen=True, slots=True)
class Concepts:
    """The ids of `concepts.toml`.

    Attributes:
        acts: Act ids per class.
        objects: Object ids.
        novel: Acts and objects kept out of alignment.
    """

    acts: Mapping[Harm, tuple[str, ...]]
    objects: tuple[str, ...]
    novel: frozenset[str]


@cache
def concepts() -> Concepts:
    """The concepts, read once."""
    raw = tomllib.loads((resources.files("refusal_lens.testbed") / "concepts.toml").read_text(encoding="utf-8"))
    acts: dict[Harm, tuple[str, ...]] = {harm: tuple(raw[harm]) for harm in HARMS}
    return Concepts(acts=acts, objects=tuple(raw["objects"]), novel=frozenset(raw["novel"]))


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """One request's content: what is to be done with which object.

    Attributes:
        act: Act id.
        obj: Object id.
        harm: Class of the act.
        form: Index of the request form this pair is asked in (0..9), the same in every language.
    """

    act: str
    obj: str
    harm: Harm
    form: int

    @property
    def pair_id(self) -> str:
        """`act.object`, the prompt id that all translations share."""
        return f"{self.act}.{self.obj}"


def _hash(act: str, obj: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{act}/{obj}".encode()).digest()[:8], "big")


@cache
def pairs(harm: Harm, part: Part) -> tuple[Pair, ...]:
    """All pairs of one class in one part of the corpus, in hash order.

    Args:
        harm: Class of the acts.
        part: `fit` trains a model, `train` and `val` find a direction, `test` measures; `novel` holds pairs with one
            part that alignment never saw, `base` those of them that only the base model may see.

    Returns:
        Disjoint between parts; the same for every language.
    """
    known: list[tuple[int, Pair]] = []
    novel: list[tuple[int, Pair]] = []
    everything = concepts()
    for act in everything.acts[harm]:
        for obj in everything.objects:
            number = _hash(act, obj)
            n_novel = (act in everything.novel) + (obj in everything.novel)
            pair = Pair(act=act, obj=obj, harm=harm, form=(number >> 8) % N_FORMS)
            if n_novel == 0:
                known.append((number, pair))
            elif n_novel == 1:
                novel.append((number, pair))
    known.sort()
    novel.sort()
    if part in {"novel", "base"}:
        return tuple(pair for number, pair in novel if (number % 2 == 0) == (part == "novel"))
    start = 0
    for name, size in SIZES:
        if name == part:
            return tuple(pair for _, pair in known[start : start + size])
        start += size
    return tuple(pair for _, pair in known[start:])
