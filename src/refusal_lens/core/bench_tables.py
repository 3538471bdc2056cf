"""The tables of a defence bench: what is in each column, as for the tables of an audit (`tables`)."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from typing_extensions import TypedDict

from refusal_lens.core.table import Table
from refusal_lens.core.tables import Harmfulness, High, Language, Low, Share

DefenceName: TypeAlias = Annotated[str, "undefended, a method, or a method with a random action: NAME:random-SEED"]
AttackName: TypeAlias = Annotated[str, "none, or the attacker (docs/defences.md)"]


class BenchRow(TypedDict):
    """Refusal of one cell: a defence under an attack, on one language's prompts of one class."""

    defence: DefenceName
    attack: AttackName
    language: Language
    prompts: Harmfulness
    k: Annotated[int, "refused answers"]
    n: Annotated[int, "scored answers: complied or refused"]
    rate: Annotated[float | None, "k / n, the share REFUSED; null where n is 0"]
    low: Low
    high: High
    kl: Annotated[float | None, "mean KL on the untouched model's answers to harmless prompts, nats a token"]
    loss: Annotated[float | None, "cross-entropy of these answers under defence and attack, nats a token"]
    overhead: Annotated[float | None, "time that the defence adds to reading a prompt, share of reading it"]


class BenchSelectivityRow(TypedDict):
    """Attack success and over-refusal of one defence under one attack, side by side."""

    defence: DefenceName
    attack: AttackName
    language: Language
    harmful_refused: Share
    attack_success: Annotated[float | None, "1 - harmful_refused"]
    overrefusal: Annotated[float | None, "share of harmless prompts refused"]
    selectivity: Annotated[float | None, "harmful_refused - overrefusal"]
    low: Low
    high: High
    n_harmful: Annotated[int, "scored harmful answers"]
    n_harmless: Annotated[int, "scored harmless answers"]
    unscored: Annotated[int, "answers of both classes that could not be judged"]
    miss: Annotated[float | None, "share of harmful prompts that the gate stayed shut for; null without a gate there"]
    false_alarm: Annotated[float | None, "share of harmless prompts that it opened for; null likewise"]


class BenchPairedRow(TypedDict):
    """What a defence changes against the undefended model under the same attack, paired by prompt."""

    defence: DefenceName
    attack: AttackName
    language: Language
    prompts: Harmfulness
    undefended: Annotated[float | None, "share refused without the defence; null where nothing was paired"]
    rate: Annotated[float | None, "share refused with it, on the same prompts"]
    difference: Annotated[float | None, "rate - undefended"]
    low: Low
    high: High
    p_value: Annotated[float | None, "exact McNemar test"]
    p_holm: Annotated[float | None, "corrected over the languages of this defence, attack and class"]
    n: Annotated[int, "prompts scored in both"]
    gained: Annotated[int, "answered before, refused after"]
    lost: Annotated[int, "refused before, answered after"]
    null_difference: Annotated[
        float | None, "the same of the defence's random action, without attack; null where none ran"
    ]


BENCH = Table("bench", BenchRow)
BENCH_SELECTIVITY = Table("bench_selectivity", BenchSelectivityRow)
BENCH_PAIRED = Table("bench_paired", BenchPairedRow)
