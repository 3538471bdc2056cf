"""How a language is called by a translation model and in a prompt for one; codes as in the models' own lists."""

from __future__ import annotations

import pytest

from refusal_lens.errors import ModelError
from refusal_lens.judging.translation import _code_for, _english_name


def known(codes: str) -> dict[str, int]:
    """A model's codes, with token ids that do not matter here."""
    return {code: number for number, code in enumerate(codes.split())}


NLLB = known(
    "acm_Arab als_Latn arb_Arab aka_Latn deu_Latn eng_Latn fra_Latn hau_Latn hin_Deva hrv_Latn jpn_Jpan khk_Cyrl "
    "kor_Hang lvs_Latn nno_Latn nob_Latn pes_Arab por_Latn prs_Arab rus_Cyrl srp_Cyrl swh_Latn tgl_Latn tha_Thai "
    "ukr_Cyrl uzn_Latn yor_Latn yue_Hant zho_Hans zho_Hant"
)
MBART = known("ar_AR de_DE en_XX fa_IR hi_IN hr_HR pt_XX sw_KE zh_CN")
M2M = known("ar de en fa ha hr no sr sw tl yo zh")


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("ar", "arb_Arab"),
        ("de", "deu_Latn"),
        ("fa", "pes_Arab"),
        ("ha", "hau_Latn"),
        ("hi", "hin_Deva"),
        ("hr", "hrv_Latn"),
        ("ja", "jpn_Jpan"),
        ("ko", "kor_Hang"),
        ("lv", "lvs_Latn"),
        ("mn", "khk_Cyrl"),
        ("nb", "nob_Latn"),
        ("nn", "nno_Latn"),
        ("no", "nob_Latn"),
        ("pt-BR", "por_Latn"),
        ("sq", "als_Latn"),
        ("sr", "srp_Cyrl"),
        ("sw", "swh_Latn"),
        ("tl", "tgl_Latn"),
        ("uk", "ukr_Cyrl"),
        ("yo", "yor_Latn"),
        ("zh", "zho_Hans"),
        ("zh-Hant", "zho_Hant"),
    ],
)
def test_a_language_is_found_by_its_three_letters(language: str, code: str) -> None:
    assert _code_for(language, NLLB, "nllb") == code


@pytest.mark.parametrize(("language", "code"), [("de", "de_DE"), ("fa", "fa_IR"), ("pt", "pt_XX"), ("zh", "zh_CN")])
def test_a_language_is_found_by_its_two_letters_and_a_region(language: str, code: str) -> None:
    assert _code_for(language, MBART, "mbart") == code


@pytest.mark.parametrize(("language", "code"), [("de", "de"), ("nb", "no"), ("fil", "tl"), ("sr-Cyrl", "sr")])
def test_a_language_is_found_by_its_two_letters(language: str, code: str) -> None:
    assert _code_for(language, M2M, "m2m") == code


def test_no_language_is_taken_for_another_nor_written_in_another_script() -> None:
    for language, known in (
        ("hi", M2M),
        ("zh", {"zho_Hant": 0}),
        ("sr-Latn", NLLB),
        ("zh-Hant", MBART),
        ("d", NLLB),
        ("", NLLB),
    ):
        with pytest.raises(ModelError, match="does not know"):
            _code_for(language, known, "m")


def test_a_language_without_a_file_is_named_by_cldr() -> None:
    names = {code: _english_name(code) for code in ("de", "fa", "hi", "nb", "sw", "sr", "qqq")}
    assert names == {
        "de": "German",
        "fa": "Persian (fa)",
        "hi": "Hindi (hi)",
        "nb": "Norwegian Bokmål (nb)",
        "sw": "Swahili (sw)",
        "sr": "Serbian (sr)",
        "qqq": "qqq",
    }
