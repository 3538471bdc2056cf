"""The sentences of a verdict: every one carries the numbers that decided. Nothing is decided here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from refusal_lens.core.names import WITHOUT
from refusal_lens.measure.universality import Effect, Target

NOT_EVEN_HOME = (
    "the selected directions carry over to no other language, and do not remove refusals in their own either: "
    "refusal does not hang on any of them"
)


def sentence(
    foreign: Sequence[Effect], served: int, removed: float | None, own: Effect | None, *, missing: int | None
) -> str:
    """A language: what foreign directions do to it, and how many prompts are missing, if only those are."""
    gone = "nothing measurable" if removed is None else f"{removed:.0%} of the refusals (median)"
    text = f"{served} of {len(foreign)} foreign directions serve it; they remove {gone}"
    if any(effect.broken for effect in foreign):
        text += f"; {sum(effect.broken for effect in foreign)} break the text instead"
    text += "" if own is None else f"; its own direction removes {own.removed:.0%}"
    if missing is not None:
        scored = min(effect.n for effect in foreign if effect.needs is not None)
        text += f"; {scored} prompts cannot tell that from nothing: about {missing} would show an effect this large"
    return text


def failure(source: str, effect: Effect) -> str:
    """Why a source is set aside, or why that is open."""
    if effect.broken:
        return f"the direction of {source} breaks the text of {source} itself: its answers can no longer be judged"
    tested = "not tested" if effect.p_value is None else f"p = {effect.p_value:.2g}"
    numbers = f"{share(effect)} ({tested}, nulls {effect.null or 0:+.0%})"
    if effect.needs is not None:
        return (
            f"whether the direction of {source} works in {source} itself is open: it removes {numbers}, which {effect.n}"
            f" prompts cannot tell from nothing; about {effect.needs} would show an effect this large"
        )
    return f"the direction of {source} fails in {source} itself: it removes {numbers}"


def pooled(targets: Mapping[str, Target]) -> list[str]:
    """What directions pooled over the other languages do to each left-out language: shown, not part of the rules."""
    effects = [
        effect
        for code, target in targets.items()
        if target.undefined is None and (effect := target.effect_of(f"{WITHOUT}{code}")) is not None
    ]
    if not effects:
        return []
    failed = [effect.target for effect in effects if not effect.served]
    rest = f"; not {names(failed)}" if failed else ""
    count = len(effects) - len(failed)
    return [f"the direction pooled over the other sources serves {count} of {len(effects)} left-out languages{rest}"]


def share(effect: Effect) -> str:
    """What an effect removed."""
    return "nothing measurable" if math.isnan(effect.removed) else f"{effect.removed:.0%} of the refusals"


def names(codes: Sequence[str]) -> str:
    """Languages in a sentence."""
    return ", ".join(codes)
