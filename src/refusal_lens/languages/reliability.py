"""How far a judge can be believed in a language: its measured agreement with reference labels, shipped as data.

The figures stand in `data/reliability.toml`. A judge's verdicts carry its name, and the name leads to the figures, so
they travel with the verdicts into gate and report. `validated` is the rule of both: Cohen's kappa of at least 0.60
("substantial" in Landis and Koch 1977, Biometrics 33, 159-174) on at least 100 answers. It says nothing of answers unlike
those measured.
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
_FILE = Path(__file__).parent / "data" / "reliability.toml"
_NAME = re.compile(r"(?P<kind>[a-z0-9]+?)(-\d+)?(\+[0-9a-f]+)?(:(?P<model>[^\s@]+)(@\S+)?)?")


@dataclass(frozen=True, slots=True)
class Reliability:
    """One judge's agreement with reference labels in one language.

    Attributes:
        judge: Kind of the judge, or kind and model.
        language: BCP-47 code.
        kappa: Cohen's kappa with the labels.
        n: Answers with both a label and a verdict.
        on_what: Which answers and labels, and whether the judge was tuned on them.
        mean_cell_error: Mean absolute error of the compliance rate over the cells measured; None where not known.
    """

    judge: str
    language: str
    kappa: float
    n: int
    on_what: str
    mean_cell_error: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether the agreement is high enough; on how many answers is another question."""
        return self.kappa >= LEAST_KAPPA

    @property
    def validated(self) -> bool:
        """Whether the agreement is high enough, on enough answers, to decide something by this judge's verdicts."""
        return self.agrees and self.n >= LEAST_ANSWERS


def reliability(judge: str, language: str) -> Reliability | None:
    """What was measured of a judge in a language.

    Args:
        judge: Name of the judge as a verdict carries it, e.g. "native-2+0f3a..", or its kind, "native".
        language: BCP-47 code.

    Returns:
        The figures, or None where this judge was never measured in this language. A judge behind a translator is another judge
        than the one that reads the translation.

    Example:
        >>> reliability("native", "en").validated
        True
    """
    known = load_reliability()
    named = _NAME.fullmatch(judge)
    if named is None:
        return None
    kind, model = named["kind"], named["model"]
    return known.get((kind if model is None else f"{kind}:{model}", language))


@lru_cache(maxsize=1)
def load_reliability() -> dict[tuple[str, str], Reliability]:
    """All figures by judge and language.

    Returns:
        The figures of the shipped file.

    Raises:
        DataError: The file is not of the form that its head describes.
    """
    try:
        table = tomllib.loads(_FILE.read_text(encoding="utf-8"))
        rows = [Reliability(**row) for row in cast("list[dict[str, str]]", table["measured"])]  # pyright: ignore[reportArgumentType]
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{_FILE}: not of the form that its head describes ({error})") from error
    return {(row.judge, row.language): row for row in rows}
