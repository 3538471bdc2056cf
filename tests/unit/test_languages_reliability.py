from __future__ import annotations

import pytest

from refusal_lens.languages import load_languages, reliability
from refusal_lens.languages.reliability import load_reliability


def test_every_figure_is_of_a_known_language_and_lies_where_it_can():
    for (judge, language), found in load_reliability().items():
        assert language in load_languages() and judge
        assert -1 <= found.kappa <= 1 and found.n > 0 and 0 <= (found.mean_cell_error or 0) <= 1 and found.on_what


def test_a_name_leads_to_its_figures_and_another_judge_to_none():
    assert reliability("native", "en") == reliability("native-2+0a1b2c3d4e5f", "en") != None  # noqa: E711
    assert reliability("native-2+0a after endpoint:http://h#m", "en") is None
    assert reliability("native:model", "en") is None
    assert reliability("native", "sv") is None


def test_yoruba_is_not_validated():
    found = reliability("native", "yo")
    assert found is not None and not found.validated


@pytest.mark.parametrize("language", ["en", "de", "zh"])
def test_languages_with_substantial_agreement_are(language: str):
    found = reliability("native", language)
    assert found is not None and found.validated
