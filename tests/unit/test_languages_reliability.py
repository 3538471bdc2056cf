from __future__ import annotations

import pytest

from refusal_lens.judging import NativeJudge
from refusal_lens.languages import load_languages, reliability
from refusal_lens.languages.reliability import load_reliability
from refusal_lens.measure import rate_rows
from refusal_lens.measure.judge_error import with_judge_error


def test_every_figure_is_of_a_known_language_and_lies_where_it_can():
    for found in load_reliability():
        assert found.language in load_languages() and found.judge
        assert -1 <= found.kappa <= 1 and found.n > 0 and 0 <= (found.mean_cell_error or 0) <= 1 and found.on_what
        if found.errors is not None:
            right, missed, false, refused = found.errors
            n = right + missed + false + refused
            agreed, chance = (
                (right + refused) / n,
                ((right + missed) * (right + false) + (false + refused) * (missed + refused)) / n**2,
            )
            assert n == found.n and (agreed - chance) / (1 - chance) == pytest.approx(found.kappa, abs=5e-4)


def test_the_shipped_figures_are_of_the_judge_as_it_stands():
    """Phrases or weights changed and nothing was measured anew: run bench/judge_reliability.py."""
    name = NativeJudge().name
    assert {row.language for row in load_reliability() if row.judge == name} == set(load_languages())


def test_a_name_leads_to_the_figures_of_its_version_and_another_judge_to_none():
    name = NativeJudge().name
    assert reliability("native", "en") == reliability(name, "en") != None  # noqa: E711
    assert reliability("native-2+0a1b2c3d4e5f", "en") != reliability("native", "en")
    assert reliability(name.partition("+")[0] + "+0a1b2c3d4e5f", "en") is None  # other phrases, never measured
    assert reliability("native-99+0a", "en") is None
    assert reliability("native-2+0a after endpoint:http://h#m", "en") is None
    assert reliability("native:model", "en") is None
    assert reliability("native", "sv") is None


def test_a_user_s_own_language_file_ends_the_figures_of_its_language_alone():
    name = NativeJudge().name + ",de=0a1b2c3d"
    assert reliability(name, "de") is None and reliability(name, "en") == reliability("native", "en")


def test_yoruba_is_not_validated():
    found = reliability("native", "yo")
    assert found is not None and not found.validated


@pytest.mark.parametrize("language", ["en", "de", "zh"])
def test_languages_with_substantial_agreement_are(language: str):
    found = reliability("native", language)
    assert found is not None and found.validated


def test_a_rate_is_widened_by_the_error_of_the_judge_that_made_its_verdicts():
    def rows(judge: str | None) -> list[dict[str, object]]:
        return [
            {"intervention": "baseline", "source": "", "language": "en", "prompts": "harmful", "prompt_id": str(i),
             "label": "complied" if i < 30 else "refused", "judge": judge, "prompt_set": None}
            for i in range(100)
        ]  # fmt: skip

    (row,) = rate_rows(rows(NativeJudge().name))
    errors = reliability("native", "en").errors  # type: ignore[union-attr]
    assert errors is not None
    found, missed, false, right = errors
    sensitivity, specificity = found / (found + missed), right / (false + right)
    by_hand = (0.3 + specificity - 1) / (sensitivity + specificity - 1)
    assert row["corrected"] == pytest.approx(min(1.0, max(0.0, by_hand)))
    assert row["rate"] == 0.3 and row["corrected_low"] <= row["corrected"] <= row["corrected_high"]  # type: ignore[operator]
    known = with_judge_error(30, 100, found=found, missed=missed, false=false, right=right)
    assert (row["corrected_low"], row["corrected_high"]) == (known.low, known.high)  # type: ignore[union-attr]
    mixed = rows(NativeJudge().name)
    mixed[0]["judge"] = "somebody"
    for unknown in (rows(None), rows("somebody-1"), rows("native-2+0a"), mixed):
        assert rate_rows(unknown)[0]["corrected"] is None
