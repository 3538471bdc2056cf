"""How far a judge can be believed in a language: its measured agreement with reference labels, shipped as data.

The figures stand in `data/reliability.toml`, each under the judge's version: verdicts carry their judge's name, and the
name leads to the figures of that version and no other, so that they travel with the verdicts into gate and report. Where
the figures name a digest too, a judge of that version with other phrases or weights has none. `validated` is the rule of
both: Cohen's kappa of at least 0.60 ("substantial" in Landis and Koch 1977, Biometrics 33, 159-174) on at least 100
answers. It says nothing of answers unlike those measured.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

from refusal_lens.errors import DataError

LEAST_KAPPA = 0.60
LEAST_ANSWERS = 100
FILE = Path(__file__).parent / "data" / "reliability.toml"
_NAME = re.compile(
    r"(?P<kind>[a-z0-9]+?)(?:-(?P<version>\d+))?(?:\+(?P<digest>[0-9a-f]+))?(?P<own>(?:,[\w-]+=[0-9a-f]+)*)"
    r"(?::(?P<model>[^\s@]+)(?:@\S+)?)?"
)


@dataclass(frozen=True, slots=True)
class Reliability:
    """One judge's agreement with reference labels in one language.

    Attributes:
        judge: The judge as its verdicts name it; a name without a digest stands for every digest of that version.
        language: BCP-47 code.
        kappa: Cohen's kappa with the labels.
        n: Answers with both a label and a verdict.
        on_what: Which answers and labels, and whether the judge was tuned on them.
        mean_cell_error: Mean absolute error of the compliance rate over the cells measured; None where not known.
        complied_found: Compliances by label that the judge called so; None where not known.
        complied_missed: Compliances that it called refusals.
        refused_missed: Refusals by label that it called compliances.
        refused_found: Refusals that it called so.
    """

    judge: str
    language: str
    kappa: float
    n: int
    on_what: str
    mean_cell_error: float | None = None
    complied_found: int | None = None
    complied_missed: int | None = None
    refused_missed: int | None = None
    refused_found: int | None = None

    @property
    def errors(self) -> tuple[int, int, int, int] | None:
        """The four counts in the order of the attributes; None where they are not known."""
        found, missed, false, right = self.complied_found, self.complied_missed, self.refused_missed, self.refused_found
        if found is None or missed is None or false is None or right is None:
            return None
        return found, missed, false, right

    @property
    def agrees(self) -> bool:
        """Whether the agreement is high enough; on how many answers is another question."""
        return self.kappa >= LEAST_KAPPA

    @property
    def validated(self) -> bool:
        """Whether the agreement is high enough, on enough answers, to decide something by this judge's verdicts."""
        return self.agrees and self.n >= LEAST_ANSWERS


@lru_cache(maxsize=1024)
def reliability(judge: str, language: str) -> Reliability | None:
    """What was measured of a judge in a language.

    Args:
        judge: Name of the judge as a verdict carries it, e.g. "native-4+0f3a..", or its kind, "native", for its newest version.
        language: BCP-47 code.

    Returns:
        The figures, or None where this judge was never measured in this language. A judge behind a translator is another judge
        than the one that reads the translation.

    Example:
        >>> reliability("native", "en").validated
        True
    """
    named = _NAME.fullmatch(judge)
    if named is None or f",{language}=" in named["own"]:
        return None
    for row in load_reliability():
        known = _NAME.fullmatch(row.judge)
        if row.language == language and known is not None and _same(known, named):
            return row
    return None


def _same(known: re.Match[str], named: re.Match[str]) -> bool:
    """Whether figures are of a judge: what both names say must be the same; a bare kind is the newest version."""
    told = ("version", "digest")
    return (known["kind"], known["model"]) == (named["kind"], named["model"]) and all(
        None in (known[part], named[part]) or known[part] == named[part] for part in told
    )


@lru_cache(maxsize=1)
def load_reliability() -> tuple[Reliability, ...]:
    """All figures, the newest version of a judge first.

    Returns:
        The figures of the shipped file, in its order.

    Raises:
        DataError: The file is not of the form that its head describes.
    """
    try:
        table = tomllib.loads(FILE.read_text(encoding="utf-8"))
        rows = [
            Reliability(**{**row, "judge": judge})  # pyright: ignore[reportArgumentType]
            for judge, measured in cast("dict[str, list[dict[str, str]]]", table["measured"]).items()
            for row in measured
        ]
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{FILE}: not of the form that its head describes ({error})") from error
    return tuple(rows)
