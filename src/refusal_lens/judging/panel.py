"""Several judges of the same answers: every verdict is kept, the first judge's is the row's.

The panel does not vote. It shows where a number hangs on who judged: agreement between each two judges by language, and
comparisons of which one judge says "more" and another "less" (`measure.panel`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations

from refusal_lens.core.names import PANEL
from refusal_lens.core.tables import AgreementRow
from refusal_lens.errors import UserError
from refusal_lens.judging.agreement import Pair, measure_agreement
from refusal_lens.judging.answer import Answer, Judge, needs_prompt
from refusal_lens.judging.thinking import ThinkingJudge, thinking_of
from refusal_lens.judging.translated import TranslatedJudge
from refusal_lens.types import Verdict, VerdictLabel

Vote = tuple[str, str, VerdictLabel]
"""Language, judge and label of one answer."""


class PanelJudge:
    """Judges side by side; none sees an answer's thoughts."""

    def __init__(self, judges: Sequence[Judge]) -> None:
        """Seat the judges.

        Args:
            judges: At least two, the one whose verdict counts first.

        Raises:
            UserError: Fewer than two, or one twice.
        """
        self.judges = tuple(
            judge if isinstance(judge, ThinkingJudge | TranslatedJudge) else ThinkingJudge(judge) for judge in judges
        )
        if len(self.judges) < 2:
            raise UserError("a panel needs at least two judges, e.g. native,encoder:FOLDER")

    @property
    def name(self) -> str:
        """All names, joined; it enters keys. A row's `judge` is the first judge's name."""
        return PANEL.join(judge.name for judge in self.judges)

    @property
    def needs_prompt(self) -> bool:
        """Whether one of them cannot do without the prompt."""
        return any(needs_prompt(judge) for judge in self.judges)

    @property
    def thinking(self) -> str:
        """Format of the thoughts that the first judge splits off."""
        return thinking_of(self.judges[0])

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        """The first judge's verdicts, each with every judge's.

        Args:
            answers: The answers.

        Returns:
            One verdict per answer, in order; `panel` holds all judges' verdicts in their order.

        Raises:
            UserError: Two judges have one name, so that their verdicts could not be told apart.
        """
        names = [judge.name for judge in self.judges]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise UserError(f"the panel has judge {twice[0]} twice; name different judges")
        votes = zip(*(judge.judge(answers) for judge in self.judges), strict=True)
        return [replace(every[0], panel=tuple(every)) for every in votes]


def split_panel(name: str, kinds: Sequence[str]) -> list[str]:
    """The judges of a list; a comma inside a path or URL does not divide.

    Args:
        name: Judges joined by commas.
        kinds: Known kinds of judges.

    Returns:
        Their names.

    Example:
        >>> split_panel("native,encoder:a,b", ("native", "encoder"))
        ['native', 'encoder:a,b']
    """
    return [part.strip() for part in re.split(rf",\s*(?=(?:{'|'.join(kinds)})(?:[:,\s]|$))", name)]


def agreement_rows(votes: Iterable[Sequence[Vote]]) -> list[AgreementRow]:
    """How far the judges of a panel agree, language by language.

    Args:
        votes: Per answer, every judge's word.

    Returns:
        A row per language and two judges, and under "all" a row over all languages where there are several.
    """
    pairs: dict[tuple[str, str, str], list[Pair]] = {}
    for every in votes:
        for (language, one, first), (_, other, second) in combinations(every, 2):
            pairs.setdefault((language, one, other), []).append(Pair(_outcome(first), _outcome(second)))
    if len({language for language, _, _ in pairs}) > 1:
        for (_, one, other), found in list(pairs.items()):
            pairs.setdefault(("all", one, other), []).extend(found)
    rows: list[AgreementRow] = []
    for (language, one, other), found in pairs.items():
        both = measure_agreement(found)
        rows.append(
            {
                "language": language,
                "judge_a": one,
                "judge_b": other,
                "n": both.n,
                "unscored_a": sum(pair.label is None for pair in found),
                "unscored_b": sum(pair.verdict is None for pair in found),
                "kappa": both.kappa,
                "low": both.kappa_low,
                "high": both.kappa_high,
                "compliance_a": both.compliance_labels,
                "compliance_b": both.compliance_judge,
            }
        )
    return rows


def votes_of(language: str, verdict: Verdict) -> list[Vote]:
    """The words of all judges on one answer; none where one judge alone spoke."""
    return [(language, each.judge, each.label) for each in verdict.panel]


def _outcome(label: VerdictLabel) -> bool | None:
    return None if label == "unscored" else label == "refused"
