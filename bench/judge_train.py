"""Fit the native judge's second reading (`judging/wording.py`). `python bench/judge_train.py check|write`.

Logistic regression with scikit-learn over marks and letter groups; short and long answers have weights of their own beside
shared ones. Fitted on the development answers without Yoruba, the probes, the mending halves of our own sets and, whole,
the sets of authors whose figures as unseen ones are published. The held halves and `blind5` are never fitted on. A
beginning of each longer answer is fitted on beside the whole, since audits of few tokens cut answers off.

`check` fits without what it then judges: the development answers in five parts by prompt (a prompt is in one part in all
languages), each author's set, the held halves. `write` fits on everything that may be fitted on and writes the weights.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, diags, hstack
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_selection import chi2
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score

from judge_labelled import SETS, half_of
from refusal_lens.judging import Answer
from refusal_lens.judging.identify import identify
from refusal_lens.judging.native import LATE_SCORE, read_answer, refuses_late
from refusal_lens.judging.scoring import both_readings, doubtful
from refusal_lens.judging.screening import unscorable
from refusal_lens.judging.wording import FILE, letter_groups

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("REFUSAL_LENS_SHARED") or ROOT.parent / "shared")
WHOLE = ("blind", "blind2", "blind3", "blind4", "author3", "author4")
HALVED = ("labelled", "fresh", "kinds", "authors", "author5")
FOLDS = 5
FEWEST, KEPT = 4, 20_000  # answers with a letter group at least; letter groups kept
LETTERS_SCALE, INVERSE_RIDGE = 3.0, 0.5
DIGITS = 3
SHORTEST_CUT, CUTS, CUT_OFF, CUT_WEIGHT = 40, 140, 40, 0.5  # characters; what a beginning counts


@dataclass(frozen=True)
class Row:
    """One labelled answer, read: `held` rows are never fitted on."""

    name: str
    language: str
    refused: bool
    fold: int
    held: bool
    text: str
    marks: dict[str, float]
    score: float
    long: bool
    late: bool
    few_words: bool
    weight: float = 1.0


def main() -> None:
    """Check or write."""
    rows = read_rows()
    if "write" in sys.argv[1:]:
        model = Model([row for row in rows if not row.held])
        FILE.write_bytes(gzip.compress(model.packed(), mtime=0))
        print(f"{FILE}: {FILE.stat().st_size} bytes")
    else:
        check(rows)


def read_rows() -> list[Row]:
    """All labelled answers, read as the judge reads them."""
    lines = (SHARED / "data" / "judge" / "dev.jsonl").read_text("utf-8").splitlines()
    sets = {"dev": lines, "probes": SETS["labelled"].with_name("judging_probes.jsonl").read_text("utf-8").splitlines()}
    sets |= {name: SETS[name].read_text("utf-8").splitlines() for name in (*HALVED, *WHOLE) if SETS[name].exists()}
    rows: list[Row] = []
    for name, texts in sets.items():
        rows += _read_set(name, map(json.loads, texts))
    return rows


def _read_set(name: str, given: Iterable[dict[str, str]]) -> Iterable[Row]:
    seen: dict[str, int] = {}
    for row in given:
        number = seen[row["lang"]] = seen.get(row["lang"], -1) + 1
        label = row.get("label") or row.get("expected") or ("refused" if row["refusal"] else "complied")
        if label not in ("refused", "complied") or (name == "dev" and row["lang"] == "yo"):
            continue
        fold = number % FOLDS if name == "dev" else -1
        held = name in HALVED and (row.get("half") or half_of(row["id"])) == "held"
        author = f"{name} {row['author']}" if "author" in row else name
        whole = _read(author, Answer(row["text"], row["lang"]), refused=label == "refused", fold=fold, held=held)
        if whole is None:
            continue
        yield whole
        length = SHORTEST_CUT + int(hashlib.sha256(row["text"].encode()).hexdigest(), 16) % CUTS
        if held or len(row["text"]) < length + CUT_OFF:
            continue
        cut = Answer(row["text"][:length], row["lang"], finished=False)
        begun = _read(author, cut, refused=label == "refused", fold=fold, held=False, weight=CUT_WEIGHT)
        if begun is not None and not (begun.refused and begun.score <= 0):  # what is cut off before it refuses has not
            yield begun


def _read(name: str, answer: Answer, *, refused: bool, fold: int, held: bool, weight: float = 1.0) -> Row | None:
    """An answer as the judge reads it, None where it judges nothing."""
    identified = identify(answer.text, expected=answer.language)
    if unscorable(answer.text) or identified.further or not identified.letters:
        return None
    read = read_answer(answer, identified)
    late = refuses_late(answer, identified, read)
    return Row(
        name,
        answer.language,
        refused,
        fold,
        held,
        read.folded.text,
        read.marks,
        read.score,
        read.long,
        late,
        read.few_words,
        weight,
    )


class Model:
    """A fit on some rows."""

    def __init__(self, rows: list[Row]) -> None:
        refused = np.array([row.refused for row in rows])
        self._marks, self._letters = DictVectorizer(), DictVectorizer()
        marks = self._marks.fit_transform([row.marks for row in rows])
        letters = self._letters.fit_transform([dict.fromkeys(letter_groups(row.text), 1.0) for row in rows])
        common = np.flatnonzero(np.asarray(letters.sum(axis=0)).ravel() >= FEWEST)
        strength = np.nan_to_num(chi2(_shared_out(letters[:, common]), refused)[0])
        self._kept = np.sort(common[np.argsort(-strength, kind="stable")[:KEPT]])
        self._fit = LogisticRegression(C=INVERSE_RIDGE, max_iter=400, solver="liblinear", random_state=0)
        self._fit.fit(self._matrix(letters, marks, rows), refused, sample_weight=[row.weight for row in rows])

    def _matrix(self, letters: csr_matrix, marks: csr_matrix, rows: list[Row]) -> csr_matrix:
        """Shared columns, then those of short answers, then those of long ones."""
        long = np.array([float(row.long) for row in rows])
        both = hstack([_shared_out(letters[:, self._kept]) * LETTERS_SCALE, marks]).tocsr()
        return hstack([both, diags(1 - long) @ both, diags(long) @ both]).tocsr()

    def log_odds(self, rows: list[Row]) -> np.ndarray:
        """Of the phrases and the second reading; a late refusal counts as the judge counts it."""
        letters = self._letters.transform([dict.fromkeys(letter_groups(row.text), 1.0) for row in rows])
        marks = self._marks.transform([row.marks for row in rows])
        odds = self._fit.decision_function(self._matrix(letters, marks, rows))
        odds = np.array([both_readings(row.score, value, long=row.long) for row, value in zip(rows, odds, strict=True)])
        late = np.array([row.late for row in rows])
        return np.where(late & (odds <= 0), LATE_SCORE, odds)

    def packed(self) -> bytes:
        """The weights as `wording.py` reads them."""
        shared, short, long = self._fit.coef_[0].reshape(3, -1)
        pairs = np.stack([shared + short, shared + long], axis=1)
        size = len(self._kept)

        def table(names: Iterable[str], weights: np.ndarray) -> dict[str, list[float]]:
            return dict(zip(names, np.round(weights, DIGITS).tolist(), strict=True))

        letters = table(self._letters.get_feature_names_out()[self._kept], pairs[:size] * LETTERS_SCALE)
        marks = table(self._marks.get_feature_names_out(), pairs[size:])
        found = {"bias": round(float(self._fit.intercept_[0]), DIGITS), "marks": marks, "letters": letters}
        return json.dumps(found, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _shared_out(letters: csr_matrix) -> csr_matrix:
    """Each answer's letter groups divided by the root of how many it has."""
    return diags(1 / np.sqrt(np.maximum(1, np.asarray(letters.sum(axis=1)).ravel()))) @ letters


def out_of_fold(rows: list[Row]) -> tuple[list[Row], list[float]]:
    """The development answers with their log odds by fits that saw none of their prompts in any language."""
    test: list[Row] = []
    odds: list[float] = []
    for fold in range(FOLDS):
        judged = [row for row in rows if row.fold == fold and row.weight == 1]
        test += judged
        odds += Model([row for row in rows if not row.held and row.fold != fold]).log_odds(judged).tolist()
    return test, odds


def check(rows: list[Row]) -> None:
    """Fit without what is judged and print how that goes."""
    fitted = [row for row in rows if not row.held]
    whole = [row for row in rows if row.weight == 1]
    test: dict[str, list[Row]] = {}
    odds: dict[str, list[float]] = {}

    def judge(name: str, judged: list[Row], fit_on: list[Row]) -> None:
        test.setdefault(name, []).extend(judged)
        odds.setdefault(name, []).extend(Model(fit_on).log_odds(judged).tolist())

    test["dev"], odds["dev"] = out_of_fold(rows)
    for name in sorted({row.name for row in rows} - {"dev", "probes", "labelled", "fresh", "kinds", "author5"}):
        judge(name, [row for row in whole if row.name == name], [row for row in fitted if row.name != name])
    fit = Model(fitted)
    for name in ("labelled", "fresh", "kinds", "author5"):
        held = [row for row in rows if row.held and row.name == name]
        test[f"held {name}"], odds[f"held {name}"] = held, fit.log_odds(held).tolist()
    for name, judged in test.items():
        print(_line(name, judged, np.array(odds[name])))
        if "by-language" in sys.argv[1:]:
            for code in sorted({row.language for row in judged}):
                chosen = [index for index, row in enumerate(judged) if row.language == code]
                print(_line(f"  {code}", [judged[at] for at in chosen], np.array(odds[name])[chosen]))


def _line(name: str, rows: list[Row], odds: np.ndarray) -> str:
    """Kappa and errors of the phrases alone and of both readings."""
    label = np.array([row.refused for row in rows])
    phrases = np.array([row.score > 0 or row.late for row in rows])
    both = odds > 0
    marked = np.array(
        [
            doubtful(value, row.score, long=row.long, few_words=row.few_words) or row.late
            for value, row in zip(odds, rows, strict=True)
        ]
    )

    def errors(said: np.ndarray) -> str:
        return (
            f"{cohen_kappa_score(label, said):.3f} missed {int((label & ~said).sum())}/{int(label.sum())}"
            f" false {int((~label & said).sum())}/{int((~label).sum())}"
        )

    rest = f"marked {marked.mean():.2f} wrong unmarked {int(((both != label) & ~marked).sum())}/{int((~marked).sum())}"
    return f"{name:13} n {len(rows):4} phrases {errors(phrases)} | both {errors(both)} {rest}"


if __name__ == "__main__":
    main()
