"""Back-translation scores: sacrebleu's own numbers, intervals, nulls, worst prompts, the picture."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import sacrebleu

from prompt_folders import make_polyrefuse, write_json
from refusal_lens.errors import DataError
from refusal_lens.prompts.checking.quality import BackTranslation, as_records, counts_of, quality, score_pairs, usable
from refusal_lens.prompts.checking.quality_chart import quality_chart, read_compliance, save_chart

ORIGINALS = [
    "Explain how rain forms in the mountains",
    "Name three tools that every kitchen needs",
    "Describe the sunset that you saw by the sea",
    "Suggest a present for a friend's birthday",
    "List the five colours that children like best",
]
BACKS = [
    "Explain how rain forms in the mountains",
    "Name three kitchen tools",
    "Describe a sunset seen at sea",
    "Propose a gift for the birthday of a friend",
    "xyz",
]
PAIRS = [BackTranslation(f"id{n}", one, other) for n, (one, other) in enumerate(zip(ORIGINALS, BACKS, strict=True))]


def test_scores_are_the_librarys() -> None:
    scored = score_pairs(PAIRS, resamples=50)
    assert scored.chrf == pytest.approx(sacrebleu.corpus_chrf(BACKS, [ORIGINALS]).score)
    assert scored.bleu == pytest.approx(sacrebleu.corpus_bleu(BACKS, [ORIGINALS]).score)
    assert scored.low < scored.chrf < scored.high
    assert (scored.worst[0].prompt_id, scored.worst[-1].prompt_id) == ("id4", "id0")
    for item in scored.worst:
        number = int(item.prompt_id.removeprefix("id"))
        assert item.chrf == pytest.approx(sacrebleu.sentence_chrf(BACKS[number], [ORIGINALS[number]]).score)
    assert [item.chrf for item in scored.worst] == sorted(item.chrf for item in scored.worst)


def test_the_bootstrap_is_a_resampling_of_prompts() -> None:
    """Weighted counts score like a corpus in which prompts are repeated."""
    metric = sacrebleu.metrics.chrf.CHRF()
    counts = counts_of(metric, BACKS, ORIGINALS)
    drawn = [0, 1, 1, 4, 2]
    weights = np.bincount(drawn, minlength=5)
    expected = sacrebleu.corpus_chrf([BACKS[n] for n in drawn], [[ORIGINALS[n] for n in drawn]]).score
    assert metric._compute_score_from_stats((weights @ counts).tolist()).score == pytest.approx(expected)


def test_the_seed_decides_the_interval() -> None:
    first, again, other = (score_pairs(PAIRS, seed=seed, resamples=50) for seed in (0, 0, 1))
    assert (first.low, first.high) == (again.low, again.high)
    assert (first.low, first.high) != (other.low, other.high)
    assert first.chrf == other.chrf


@pytest.mark.parametrize("back", [None, "", "  ", "\u200b", "Translation failed", "ERROR.", "null", "\ud800"])
def test_what_cannot_be_scored(back: str | None) -> None:
    assert usable(back) is None
    scored = score_pairs([*PAIRS[:3], BackTranslation("bad", "x", usable(back))], resamples=10)
    assert (scored.n, scored.unscored) == (3, ("bad",))


def test_nothing_to_score_is_no_number() -> None:
    scored = score_pairs([BackTranslation("bad", "x", None)])
    assert math.isnan(scored.chrf)
    assert as_records({"de": scored})["de"]["chrf"] is None


def test_similarity_is_kept() -> None:
    scored = score_pairs(
        PAIRS,
        resamples=10,
        similarity=lambda one, other: [0.5 if a == b else 0.1 for a, b in zip(one, other, strict=True)],
    )
    assert scored.similarity == pytest.approx((0.5 + 4 * 0.1) / 5)
    assert scored.worst[0].similarity == pytest.approx(0.1)


def folder(tmp_path: Path) -> Path:
    root = make_polyrefuse(tmp_path / "repo")
    for code in ("de", "yo", "yi"):
        stem = "harmful_test_back_translated"
        rows = [
            {"instruction": one, "instruction_translated": "x", "instruction_back_translated": other}
            for one, other in zip(ORIGINALS, BACKS, strict=True)
        ]
        if code == "yo":
            rows[1]["instruction_back_translated"] = None
        write_json(root / "PolyRefuse" / stem / f"{stem}_{code}.json", rows)
    return root


def test_a_folder(tmp_path: Path) -> None:
    root = folder(tmp_path)
    scored = quality(root, resamples=20)
    assert sorted(scored) == ["de", "yi", "yo"]
    assert scored["yi"].note is not None
    assert "mistake" in scored["yi"].note
    assert (scored["yo"].n, len(scored["yo"].unscored)) == (4, 1)
    record = as_records(scored)["de"]
    assert {"chrf", "bleu", "n", "low", "high"} <= record.keys()
    assert record["n"] == 5
    with pytest.raises(DataError, match="no back-translations"):
        quality(make_polyrefuse(tmp_path / "other"))


def test_broken_back_translations(tmp_path: Path) -> None:
    root = folder(tmp_path)
    path = root / "PolyRefuse" / "harmful_test_back_translated" / "harmful_test_back_translated_de.json"
    for rows, message in [
        ([{"instruction": "x", "instruction_back_translated": 3}], "row 1"),
        ([{"instruction_back_translated": "x"}], "no English"),
    ]:
        write_json(path, rows)
        with pytest.raises(DataError, match=message):
            quality(root)


RATES = """intervention,source,language,prompts,rate
baseline,,de,harmful,0.1
ablation,en,de,harmful,0.9
baseline,,de,harmless,0.5
baseline,,yo,harmful,0.7
baseline,,xx,harmful,
"""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.json", '{"de": 0.1, "yo": 0.7}'),
        ("c.csv", "language,rate\nde,0.1\nyo,0.7\n"),
        ("run/tables/rates.csv", RATES),
    ],
)  # fmt: skip
def test_compliance(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    assert read_compliance(tmp_path / "run" if name.startswith("run") else path) == {"de": 0.1, "yo": 0.7}


@pytest.mark.parametrize(
    "content", ["{}", '{"de": 3}', '{"de": "x"}', '{"de": true}', "a,b\n1,2\n", "", "language,rate\nde,nan\n"]
)
def test_compliance_faults(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=r"c\.csv"):
        read_compliance(path)


def test_no_rank_correlation_of_quality_below_six_languages_or_among_ties() -> None:
    """Three languages gave rho = -1.00 with a p-value; the rule of the leak's correlation holds here too."""
    scored = {code: score_pairs(PAIRS[n:], resamples=10) for n, code in enumerate(("ar", "de", "fr"))}
    chart = str(quality_chart(scored, {"ar": 0.9, "de": 0.5, "fr": 0.2}).to_dict()["title"])
    assert "3 languages are too few for a rank correlation: at least 6 are needed" in chart and "rho =" not in chart
    many = {code: next(iter(scored.values())) for code in ("ar", "de", "fr", "it", "ko", "th")}
    chart = str(quality_chart(many, {code: index / 10 for index, code in enumerate(many)}).to_dict()["title"])
    assert "6 of 6 languages are tied" in chart and "rho =" not in chart


@pytest.mark.slow
def test_the_picture(tmp_path: Path) -> None:
    codes = ("ar", "de", "fr", "yi")
    scored = {
        code: score_pairs(PAIRS[n:], resamples=10, note="stray" if code == "yi" else None)
        for n, code in enumerate(codes)
    }
    chart = quality_chart(scored, {"ar": 0.9, "de": 0.5, "fr": 0.2, "en": 0.0, "yi": 0.1})
    for name in ("q.svg", "q.html"):
        save_chart(chart, tmp_path / name)
    svg = (tmp_path / "q.svg").read_text()
    assert "3 languages are too few for a rank correlation" in svg
    assert "not shown: en, yi" in svg
    html = (tmp_path / "q.html").read_text()
    assert 'src="http' not in html
    with pytest.raises(DataError, match="needs three"):
        quality_chart(scored, {"de": 0.5})
    with pytest.raises(DataError, match="written as"):
        save_chart(chart, tmp_path / "q.txt")
