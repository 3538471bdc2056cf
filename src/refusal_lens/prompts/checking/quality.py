"""Translation quality from back-translations: chrF and BLEU against the English originals, with bootstrap intervals.

Both scores are sacrebleu's corpus scores (0..100; chrF2 with character 6-grams, BLEU with 13a tokens). The interval is
the 2.5 and 97.5 percentile over resamples of prompts: per-prompt counts are drawn with replacement, summed and scored,
which is what a corpus score over the resampled prompts is. Prompts without a usable back-translation are counted,
listed and not scored.

A back-translation passes twice through a translator, so it bounds the quality from below and favours translators that
undo their own errors; it does not say whether the translation is idiomatic.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from refusal_lens.errors import DataError
from refusal_lens.prompts.loading.built import SPLIT_FILES, read_standard_rows
from refusal_lens.prompts.loading.cell import ENGLISH, id_of, number_copies
from refusal_lens.prompts.loading.layout import Layout, find_layout, parquet_languages
from refusal_lens.prompts.loading.texts import read_records, row_fault
from refusal_lens.types import SPLITS

RESAMPLES = 1000
WORST = 10
_FAILED = re.compile(r"\W*(translation failed|translation error|error|none|null|nan)\W*", re.IGNORECASE)

Similarity = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
"""Cosine similarity of each original with its back-translation, in [-1, 1]."""


@dataclass(frozen=True, slots=True)
class WorstItem:
    """A prompt with a low score: its id, chrF (0..100) and, where measured, similarity."""

    prompt_id: str
    chrf: float
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class Quality:
    """Translation quality of one language.

    Attributes:
        chrf: Corpus chrF, 0..100.
        low: Lower end of its 95 % interval.
        high: Upper end.
        bleu: Corpus BLEU, 0..100.
        bleu_low: Lower end of its 95 % interval.
        bleu_high: Upper end.
        n: Prompts scored.
        unscored: Ids of prompts without a usable back-translation.
        worst: The lowest-scoring prompts, lowest first.
        similarity: Mean cosine similarity of embeddings; None where none were given.
        note: What a reader must know about this language's figures.
    """

    chrf: float
    low: float
    high: float
    bleu: float
    bleu_low: float
    bleu_high: float
    n: int
    unscored: tuple[str, ...]
    worst: tuple[WorstItem, ...]
    similarity: float | None = None
    note: str | None = None


def quality(
    root: str | os.PathLike[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    similarity: Similarity | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Quality]:
    """Score every language of a folder that has back-translations.

    Args:
        root: A published or built data set.
        seed: Seed of the bootstrap.
        resamples: Bootstrap resamples.
        similarity: Embedding similarity, where a model is at hand.
        progress: Called with each language's code when it is scored.

    Returns:
        Language code -> quality, sorted by code.

    Raises:
        DataError: When there is no back-translation, or a file is broken.
    """
    layout = find_layout(root)
    pairs = all_back_translations(layout)
    if not pairs:
        raise DataError(f"{root}: no back-translations in it; `refusal-lens data build` makes them")
    has_prompts = set(layout.languages()) if layout.parquet is None else set(pairs)
    scored: dict[str, Quality] = {}
    for language in sorted(pairs):
        if progress is not None:
            progress(language)
        note = None if language in has_prompts else f"stray: there are no {language} prompts; published by mistake"
        scored[language] = score_pairs(
            pairs[language], seed=seed, resamples=resamples, similarity=similarity, note=note
        )
    return scored


def score_pairs(
    pairs: Sequence[BackTranslation],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    similarity: Similarity | None = None,
    note: str | None = None,
) -> Quality:
    """Score one language.

    Args:
        pairs: Originals and back-translations.
        seed: Seed of the bootstrap.
        resamples: Bootstrap resamples.
        similarity: Embedding similarity, where a model is at hand.
        note: Kept with the result.

    Returns:
        The scores; NaN where nothing could be scored.
    """
    scored = [(pair, pair.back) for pair in pairs if pair.back is not None]
    unscored = tuple(pair.prompt_id for pair in pairs if pair.back is None)
    if not scored:
        nan = float("nan")
        return Quality(nan, nan, nan, nan, nan, nan, 0, unscored, (), None, note)
    backs, originals = [back for _, back in scored], [pair.english for pair, _ in scored]
    chrf, bleu = CHRF(), BLEU(effective_order=False, force=True)
    chrf_counts, bleu_counts = counts_of(chrf, backs, originals), counts_of(bleu, backs, originals)
    weights = _resampled(len(scored), resamples, seed)
    chrf_low, chrf_high = _interval(chrf, chrf_counts, weights)
    bleu_low, bleu_high = _interval(bleu, bleu_counts, weights)
    cosines = [float(value) for value in similarity(originals, backs)] if similarity is not None else None
    each = [_score(chrf, row) for row in chrf_counts]
    order = sorted(range(len(each)), key=lambda index: (each[index], index))[:WORST]
    worst = tuple(
        WorstItem(scored[index][0].prompt_id, each[index], cosines[index] if cosines else None) for index in order
    )
    return Quality(
        chrf=_score(chrf, chrf_counts.sum(axis=0)),
        low=chrf_low,
        high=chrf_high,
        bleu=_score(bleu, bleu_counts.sum(axis=0)),
        bleu_low=bleu_low,
        bleu_high=bleu_high,
        n=len(scored),
        unscored=unscored,
        worst=worst,
        similarity=float(np.mean(cosines)) if cosines else None,
        note=note,
    )


def counts_of(metric: CHRF | BLEU, backs: Sequence[str], originals: Sequence[str]) -> Int[np.ndarray, "prompt count"]:
    """Per-prompt match counts, whose column sums are the corpus's."""
    # sacrebleu keeps this method private, and it is the only way to its counts: a test compares the sums' score with
    # corpus_score, so a change there is noticed.
    rows = metric._extract_corpus_statistics(list(backs), [list(originals)])  # pyright: ignore[reportPrivateUsage]
    return np.array(rows, dtype=np.int64)


def _score(metric: CHRF | BLEU, counts: Int[np.ndarray, " count"]) -> float:
    return float(metric._compute_score_from_stats(counts.tolist()).score)  # pyright: ignore[reportPrivateUsage]


def _resampled(n: int, resamples: int, seed: int) -> Int[np.ndarray, "resample prompt"]:
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=resamples)


def _interval(
    metric: CHRF | BLEU, counts: Int[np.ndarray, "prompt count"], weights: Int[np.ndarray, "resample prompt"]
) -> tuple[float, float]:
    sums = weights @ counts
    scores: Float[np.ndarray, " resample"] = np.array([_score(metric, row) for row in sums])
    low, high = np.quantile(scores, [0.025, 0.975])
    return float(low), float(high)


def as_records(scored: Mapping[str, Quality]) -> dict[str, dict[str, object]]:
    """The result as JSON objects: language -> {chrf, bleu, n, low, high, ..}; NaN becomes null."""
    return {language: _record(item) for language, item in scored.items() if language != ENGLISH}


def _record(item: Quality) -> dict[str, object]:
    def plain(value: float | None) -> float | None:
        return None if value is None or np.isnan(value) else round(value, 2)

    return {
        "chrf": plain(item.chrf),
        "bleu": plain(item.bleu),
        "n": item.n,
        "low": plain(item.low),
        "high": plain(item.high),
        "bleu_low": plain(item.bleu_low),
        "bleu_high": plain(item.bleu_high),
        "unscored": list(item.unscored),
        "similarity": plain(item.similarity),
        "worst": [{"prompt_id": worst.prompt_id, "chrf": plain(worst.chrf)} for worst in item.worst],
        "note": item.note,
    }


@dataclass(frozen=True, slots=True)
class BackTranslation:
    """An English original and its back-translation; `back` is None where there is none."""

    prompt_id: str
    english: str
    back: str | None


def back_translations(path: Path) -> list[BackTranslation]:
    """Read a published back-translation file."""
    pairs: list[tuple[str, str | None]] = []
    for number, record in enumerate(read_records(path), start=1):
        english, back = record.get("instruction"), record.get("instruction_back_translated")
        if not isinstance(english, str) or row_fault(english) is not None:
            raise DataError(f"{path}, row {number}: no English `instruction`; repair or re-download the file")
        if back is not None and not isinstance(back, str):
            raise DataError(f"{path}, row {number}: `instruction_back_translated` is no text")
        pairs.append((english, usable(back)))
    ids = number_copies(id_of(english) for english, _ in pairs)
    return [BackTranslation(prompt_id, english, back) for prompt_id, (english, back) in zip(ids, pairs, strict=True)]


def usable(back: str | None) -> str | None:
    """A back-translation that can be scored, or None: null, empty, undecodable, or a failure message."""
    return None if back is None or row_fault(back) is not None or _FAILED.fullmatch(back) else back


def all_back_translations(layout: Layout) -> dict[str, list[BackTranslation]]:
    """Every back-translation that a folder holds."""
    if layout.parquet is None:
        return {code: back_translations(path) for code, path in layout.back_translated().items()}
    found: dict[str, list[BackTranslation]] = {}
    for language in parquet_languages(layout.parquet):
        for split in SPLITS:
            path = layout.parquet / language / SPLIT_FILES[split]
            for row in read_standard_rows(path) if path.exists() else []:
                if row.english is not None and language != "en":
                    pair = BackTranslation(row.prompt_id, row.english, usable(row.back_translation))
                    found.setdefault(language, []).append(pair)
    return {language: pairs for language, pairs in found.items() if any(pair.back is not None for pair in pairs)}
