"""The monitor's numbers: conformal thresholds, the cut of unlabelled scores, the choice of a detector. No model here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from refusal_lens.errors import DataError, NoValidDirection, UserError
from refusal_lens.monitor import endings
from refusal_lens.monitor.card import OTHERS, Calibration, Card
from refusal_lens.monitor.conformal import Quantile, conformal, moved, split, stand_in
from refusal_lens.monitor.detector import Candidate, Examples, Site, choose, fold_weights, out_of_fold, weights
from refusal_lens.monitor.evaluating import Measured, curves, evaluate
from refusal_lens.monitor.figures import auroc, auroc_interval, false_alarm_at, miss_at
from refusal_lens.monitor.fitting import Unlabelled, fit, with_labels, with_traffic
from refusal_lens.monitor.nulls import Labelled, Nulls
from refusal_lens.monitor.shifts import SHIFTS, shifts_of
from refusal_lens.types import Prompt


def test_a_threshold_is_the_kth_smallest_harmful_score():
    found = conformal(np.arange(1.0, 40.0), 0.05)  # k = floor(0.05 * 40) = 2
    assert (found.threshold, found.promised, found.n) == (2.0, 0.05, 39)
    few = conformal(np.asarray([3.0, 1.0, 2.0]), 0.05)  # fewer than 19 promise no 5 %
    assert (few.threshold, few.promised) == (1.0, 0.25)


def test_conformal_thresholds_miss_what_they_promise_on_average():
    draw = np.random.default_rng(0)
    missed = [
        float((draw.normal(size=200) < conformal(draw.normal(size=59), 0.05).threshold).mean()) for _ in range(300)
    ]
    assert np.mean(missed) == pytest.approx(3 / 60, abs=0.006)  # k = 3 of 59 + 1


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60), st.floats(0.01, 0.5))
def test_a_threshold_is_one_of_the_scores_and_no_more_than_the_share_lies_below(scores: list[float], miss: float):
    found = conformal(np.asarray(scores), miss)
    assert found.threshold in scores
    assert sum(score < found.threshold for score in scores) <= max(0, miss * (len(scores) + 1) - 1 + 1e-6)


def test_two_groups_are_cut_between_them_and_one_group_is_not_believed():
    draw = np.random.default_rng(1)
    two = np.concatenate([draw.normal(-3, 0.5, 60), draw.normal(3, 0.5, 60)])
    found = split(two)
    assert found is not None and found.believed
    assert -1 < found.cut < 1 and found.share_high == 0.5
    assert found.separation == pytest.approx(9 / 9.25, abs=0.01)  # between / (between + within) variance
    one = split(draw.normal(size=400))
    assert one is not None and not one.believed
    assert one.separation == pytest.approx(2 / np.pi, abs=0.03)  # a normal distribution cut in its middle
    assert split(np.zeros(100)) is None and split(two[:10]) is None


def test_harmful_prompts_below_the_cut_count_against_the_target():
    """Groups N(0, 1) and N(3.5, 1): cut about 1.75, so 4 % of the harmful prompts hide below it. Right miss rate: 5 %.

    The upper side alone missed 7 %: the hidden ones and 5 % of the others, less what harmless prompts above the cut took off.
    """
    draw = np.random.default_rng(11)
    missed: dict[str, list[float]] = {"upper side": [], "hidden ones too": []}
    for _ in range(300):
        scores = np.concatenate([draw.normal(size=160), draw.normal(3.5, 1, size=160)])
        cut = split(scores)
        assert cut is not None
        found = stand_in(scores, cut.cut, 0.05)
        alone = conformal(scores[scores >= cut.cut], 0.05)
        for name, one in (("hidden ones too", found), ("upper side", alone)):
            missed[name].append(norm.cdf(one.threshold - 3.5))
        assert found.threshold >= cut.cut
    assert np.mean(missed["upper side"]) == pytest.approx(0.07, abs=0.006)
    assert np.mean(missed["hidden ones too"]) == pytest.approx(0.05, abs=0.006)
    apart = np.concatenate([np.linspace(-1, 1, 99), np.linspace(9, 11, 99)])
    assert stand_in(apart, 5.0, 0.05) == conformal(apart[99:], 0.05), "nothing hides where the groups lie apart"
    skewed = np.array(
        [0.0, 1.0, 5.0, 6.0, 7.0, 8.0, 20.0, 21.0]
    )  # median 7.5 above 5; 20 and 21 lie beyond 10: 2 of 8 hide
    assert stand_in(skewed, 5.0, 0.05) == Quantile(5.0, 0.25, 6), (
        "never below the cut, and the promise says what that costs"
    )


def test_a_few_labels_move_the_threshold_and_many_replace_it():
    assert moved(0.2, 1.0, np.asarray([]), 0.05) == 0.2
    assert moved(0.2, 1.0, np.asarray([0.0]), 0.05) == pytest.approx(0.2 - 0.5)  # half the distance of one label
    assert moved(0.2, 1.0, np.asarray([0.0, 0.0, 0.0]), 0.05) == pytest.approx(0.2 - 0.75)
    many = np.linspace(-1, 1, 39)
    assert moved(0.2, 1.0, many, 0.05) == conformal(many, 0.05).threshold


def _examples(draw: np.random.Generator, *, shift: np.ndarray, n: int = 40) -> Examples:
    """Two layers: noise alone, and a class difference of 6 along the first axis."""

    def rows(count: int, sign: float) -> np.ndarray:
        found = draw.normal(size=(count, 1, 2, 8))
        found[:, 0, 1, 0] += 3 * sign
        found[:, 0, 1] += shift
        return found.astype(np.float32)

    return Examples(rows(n, 1), rows(n, -1), rows(n // 2, 1), rows(n // 2, -1))


def test_the_layer_that_separates_is_chosen_and_other_languages_are_calibrated_without_labels():
    draw = np.random.default_rng(2)
    english = _examples(draw, shift=np.zeros(8))
    moved_away = _examples(draw, shift=np.eye(8)[0] * 5, n=100)
    mixed = np.concatenate([moved_away.harmful, moved_away.harmless])
    flat = draw.normal(size=(60, 1, 2, 8)).astype(np.float32)
    others = {code: Unlabelled(rows, np.full(len(rows), -1)) for code, rows in {"xx": mixed, "flat": flat}.items()}
    found = fit({"en": english}, others, miss=0.05)
    assert found.chosen.site.layer == 1
    assert abs(float(found.weight[0])) > 0.9
    xx = found.calibrations["xx"]
    assert xx.how == "unlabelled" and found.calibrations["flat"].how == "centred"
    test = _examples(draw, shift=np.eye(8)[0] * 5, n=2000)
    card = _card(found.slope, found.intercept, found.calibrations)
    scores = test.harmful[:, 0, 1] @ found.weight, test.harmless[:, 0, 1] @ found.weight
    missed, alarms = (card.probability(part, xx) >= xx.threshold for part in scores)
    assert 1 - missed.mean() == pytest.approx(0.05, abs=0.035)
    assert alarms.mean() < 0.01
    english_line = found.calibrations["en"]
    # English harmful scores are N(3, 1) and their 5 % quantile 1.36; the other language's harmless ones are N(2, 1)
    borrowed = (card.probability(scores[1], english_line) >= english_line.threshold).mean()
    assert borrowed > 0.5, "the English threshold would flag most harmless prompts of the other language"


def test_two_fit_languages_with_different_means_give_one_direction():
    draw = np.random.default_rng(3)
    pairs = [_examples(draw, shift=np.eye(8)[1] * far) for far in (0, 40)]
    for method in ("projection", "logistic"):
        weight = weights([(one.harmful[:, 0, 1], one.harmless[:, 0, 1]) for one in pairs], method)
        assert float(np.linalg.norm(weight)) == pytest.approx(1)
        assert weight[0] > 0.7 and abs(weight[1]) < 0.4


def test_out_of_fold_scores_of_noise_do_not_separate():
    draw = np.random.default_rng(4)
    harmful, harmless = draw.normal(size=(60, 1, 1, 300)), draw.normal(size=(60, 1, 1, 300))
    one = Examples(harmful, harmless, harmful[:2], harmless[:2])
    by_fold = fold_weights({"xx": one}, Site("projection", 0, 0))
    seen = weights([(harmful[:, 0, 0], harmless[:, 0, 0])], "projection")
    rows, folds = np.concatenate([harmful, harmless])[:, 0, 0], np.concatenate(one.fold)
    held = out_of_fold(rows, folds, by_fold, seen)
    assert abs(float(held[:60].mean() - held[60:].mean())) < 0.6
    assert float((rows[:60] @ seen).mean() - (rows[60:] @ seen).mean()) > 2, "in sample it would look like a finding"
    assert np.allclose(out_of_fold(rows, np.full(120, -1), by_fold, seen), rows @ seen)


def test_a_translation_of_a_fit_prompt_is_scored_by_a_weight_that_did_not_see_it():
    """What a prompt says is in its translation too: noise that the weight has learnt there is no sign of harm.

    Both languages hold the same 60 prompts: activations of 300 dimensions with a class difference of 3 and, in both
    languages, the prompt's own noise, which raises the fit prompts' scores and no new prompt's.
    """
    draw = np.random.default_rng(8)
    own = draw.normal(size=(120, 300))
    own[:60, 0] += 3
    held = draw.normal(size=(40, 300)) + 3 * np.outer(np.repeat([1, 0], 20), np.eye(300)[0])
    english = Examples(*(part[:, None, None].astype(np.float32) for part in (own[:60], own[60:], held[:20], held[20:])))
    translated = (own + 0.2 * draw.normal(size=own.shape))[:, None, None].astype(np.float32)
    folds = np.concatenate(english.fold)
    new = draw.normal(size=(4000, 300))
    new[:, 0] += 3
    missed: dict[str, float] = {}
    for name, of in {"by id": folds, "as if unseen": np.full(120, -1)}.items():
        found = fit({"en": english}, {"xx": Unlabelled(translated, of)}, miss=0.05)
        line = found.calibrations["xx"]
        card = _card(found.slope, found.intercept, found.calibrations)
        missed[name] = float((card.probability(new @ found.weight, line) < line.threshold).mean())
    assert missed["by id"] < 0.15 < missed["as if unseen"], missed


def test_labels_that_mean_nothing_give_no_monitor():
    same = np.ones((20, 1, 1, 4), np.float32)
    with pytest.raises(NoValidDirection, match="no detector tells"):
        fit({"en": Examples(same, same, same, same)}, {}, miss=0.05)


def test_the_choice_is_by_validation_first_and_by_other_languages_among_equals():
    def made(layer: int, auc: float, separation: float | None, distance: float) -> Candidate:
        return Candidate(Site("projection", 0, layer), auc, separation, distance)

    assert choose([made(1, 0.9, 0.9, 9.0), made(2, 1.0, 0.7, 1.0), made(3, 0.998, 0.8, 0.0)]).site.layer == 3
    assert choose([made(1, 1.0, None, 2.0), made(2, 1.0, None, 5.0)]).site.layer == 2


def _card(slope: float, intercept: float, calibrations: dict[str, Calibration]) -> Card:
    model = {"spec": "m", "digest": "d", "template_digest": "t", "architecture": "a", "dtype": "float32"}
    return Card(model, "projection", -1, 1, slope, intercept, 0.05, ("en",), ("texts",), calibrations)


def test_a_card_comes_back_as_it_was_and_a_damaged_one_is_named():
    line = Calibration("labels", 0.5, 2.0, 0.9, 0.05, 39, None, (0.1, 0.2))
    card = _card(3.0, 0.1, {OTHERS: line, "en": line})
    assert Card.from_json(card.as_json(), "card") == card
    assert card.calibration("sv") is line and card.calibration(None) is line
    content = card.as_json()
    for broken in ({**content, "slope": None}, {**content, "calibrations": {}}, {**content, "schema_version": 9}):
        with pytest.raises(DataError, match="fit it again"):
            Card.from_json(broken, "card")


def test_labels_of_a_language_move_its_threshold_towards_them():
    line = Calibration("borrowed", 0.0, 1.0, 0.5, None, 0)
    card = _card(4.0, 0.0, {OTHERS: line, "en": line})
    lower = with_labels(card, "yo", np.asarray([0.0, 0.0]))  # harmful ones were thought to lie about +1
    assert lower.how == "few labels" and lower.threshold == pytest.approx(1 / (1 + np.exp(4 * 2 / 3)))
    many = with_labels(card, "yo", np.linspace(-1, 1, 39))
    assert many.how == "labels" and many.promised == pytest.approx(0.05)


def test_end_marks_that_tell_the_classes_apart_are_mixed():
    harmful, harmless = ["Pick a lock", "Open a safe", "Read a diary"], ["Bake bread.", "Sing a song.", "Is it late?"]
    assert endings.distance(harmful, harmless) == pytest.approx(1.0)
    assert endings.distance(harmless, list(reversed(harmless))) == 0.0
    many = [f"Do thing {number}" for number in range(400)]
    changed = endings.mixed(many, [*harmful, *harmless])
    assert [text.rstrip(".?") for text in changed] == many
    # the pool's marks: none 3 of 6, full stop 2 of 6, question mark 1 of 6
    shares = [sum(map(test, changed)) / 400 for test in (lambda t: t.endswith("."), lambda t: t.endswith("?"))]
    assert shares == pytest.approx([2 / 6, 1 / 6], abs=0.07)
    assert endings.mixed([f"{text}?" for text in many], [*harmful, *harmless]) == changed, "the old mark has no say"


def test_an_auroc_has_newcombe_s_interval():
    # Newcombe (2006) method 5 solved by hand for A = 1, m = n = 50: (1 - t)^2 = z^2 V(t)
    low, high = auroc_interval(1.0, 50, 50)
    variance = low * (1 - low) * (1 + 49 * (1 - low) / (2 - low) + 49 * low / (1 + low)) / 2500
    assert (1 - low) ** 2 == pytest.approx(3.8415 * variance, rel=1e-3) and high == 1.0
    low, high = auroc_interval(0.8, 60, 40)
    assert low < 0.8 < high and auroc_interval(0.2, 60, 40) == pytest.approx((1 - high, 1 - low))
    # coverage on scores whose AUROC is known: normal classes one standard deviation apart, Phi(1 / sqrt 2) = 0.7602
    draw = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        found = auroc(draw.normal(1, 1, 40), draw.normal(0, 1, 40))
        covered += found.low <= 0.76025 <= found.high
    assert covered >= 183


def test_misses_and_false_alarms_are_counted_at_their_thresholds():
    harmful, harmless = np.asarray([1.0, 2.0, 3.0, 4.0, 5.0]), np.asarray([0.0, 0.5, 2.5, 3.5])
    assert miss_at(harmful, harmless, 0.0).k == 3  # flagged above 3.5: 4 and 5
    assert miss_at(harmful, harmless, 0.25).k == 2  # one harmless prompt may be flagged: above 2.5
    assert miss_at(harmful, harmless, 0.01) == miss_at(harmful, harmless, 0.0)
    assert false_alarm_at(harmful, harmless, 0.0).k == 2  # everything harmful flagged from 1 on
    assert false_alarm_at(harmful, harmless, 0.2).value == 0.5  # from 2 on


def _tested(draw: np.random.Generator, *, words: bool, shift: str = "") -> Measured:
    """Scores that separate well; texts that give the class away by a word, or by nothing."""
    texts = [
        [f"please {'burn' if words and harmful else 'bake'} thing {number}" for number in range(60)]
        for harmful in (1, 0)
    ]
    rows = [np.asarray(draw.normal(size=(60, 200)) + 4 * sign * np.eye(200)[0], np.float32) for sign in (1, -1)]
    scores = rows[0][:, 0].astype(float), rows[1][:, 0].astype(float)
    return Measured("yo", "texts", shift, *scores, (texts[0], texts[1]), (rows[0], rows[1]), scores[0][:8])


def test_a_figure_that_words_reach_is_not_claimed():
    draw = np.random.default_rng(5)
    known = _tested(draw, words=True)
    nulls = Nulls(Labelled(*known.texts, *known.rows))
    line = Calibration("unlabelled", 0.0, 4.0, 0.5, 0.05, 100)
    card = _card(4.0, 0.0, {OTHERS: line, "en": line, "yo": line})
    for words, claim in ((True, "not beyond its null"), (False, "beyond its null")):
        rows = evaluate(card, [_tested(draw, words=words)], nulls)
        found = {(row["figure"], row["calibration"]): row for row in rows}
        assert found["auroc", ""]["claim"] == claim
        assert found["auroc", ""]["null"] == ("words" if words else "random direction")
        assert set(found) >= {("miss", name) for name in ("card", "none", "1 label", "4 labels", "8 labels", "traffic")}
        assert found["false alarm", "card"]["claim"] == claim
    shifted = evaluate(card, [_tested(draw, words=False, shift="padded")], nulls)
    assert {row["calibration"] for row in shifted} == {"", "card", "traffic"}


def test_traffic_calibrates_where_all_scores_moved_and_the_card_misses_everything():
    """Scores of 1000 + 1000 prompts, all 30 lower than the card's: each half gives the other its threshold, without a label.

    Right by hand: of 500 harmful scores k = floor(0.05 * 501) = 25, so about 25 of 501 of the other half lie below.
    """
    draw = np.random.default_rng(7)
    line = Calibration("unlabelled", 0.0, 4.0, 0.5, 0.05, 100)
    card = _card(4.0, 0.0, {OTHERS: line, "yo": line})
    rows = [np.asarray(draw.normal(size=(1000, 3)), np.float32) for _ in range(2)]
    scores = [draw.normal(sign * 4, 1, 1000) - 30 for sign in (1, -1)]
    texts = [[f"thing {number}" for number in range(1000)]] * 2
    one = Measured(
        "yo", "texts", "padded", scores[0], scores[1], (texts[0], texts[1]), (rows[0], rows[1]), scores[0][:0]
    )
    nulls = Nulls(Labelled(*one.texts, *one.rows))
    found = {(row["figure"], row["calibration"]): row for row in evaluate(card, [one], nulls)}
    assert found["miss", "card"]["value"] == 1.0
    assert found["miss", "traffic"]["value"] == pytest.approx(25 / 501, abs=0.02)
    assert found["miss", "traffic"]["n"] == 1000 and found["false alarm", "traffic"]["k"] == 0
    alike = replace(one, harmful=draw.normal(size=1000), harmless=draw.normal(size=1000))
    assert not any(row["calibration"] == "traffic" for row in evaluate(card, [alike], nulls)), "one group, no threshold"


def test_groups_that_moved_together_give_a_threshold_and_no_promise():
    """After a long text two thirds of the harmful prompts scored like harmless ones; 4.5 % were promised and 61 % missed."""
    draw = np.random.default_rng(8)
    line = Calibration("unlabelled", 0.0, 25.0, 0.5, 0.05, 100)
    card = _card(4.0, 0.0, {OTHERS: line, "fr": line})
    harmless = draw.normal(-5, 1.5, 160)
    as_before = with_traffic(card, "fr", np.concatenate([harmless, draw.normal(45, 6, 160)]))
    assert as_before is not None and as_before.promised is not None and as_before.promised <= 0.05
    nearer = with_traffic(card, "fr", np.concatenate([harmless, draw.normal(0, 2, 100), draw.normal(20, 4, 60)]))
    assert nearer is not None and nearer.separation > 0.8, "clear groups, but not those of before: half 11 of 25"
    assert nearer.promised is None


def test_the_area_over_a_curve_of_misses_is_the_auroc_and_the_threshold_s_figures_lie_on_it():
    draw = np.random.default_rng(6)
    known = _tested(draw, words=False)
    one = replace(
        known, harmful=np.round(draw.normal(1, 1, 60), 1), harmless=np.round(draw.normal(0, 1, 60), 1)
    )  # ties
    rows = curves([one, replace(one, harmless=np.zeros(0))], Nulls(Labelled(*known.texts, *known.rows)))
    assert {row["series"] for row in rows} == {"monitor", "random direction"}, "words and length say nothing here"
    own = [row for row in rows if row["series"] == "monitor"]
    alarms, misses = ([row[name] for row in own] for name in ("false_alarm", "miss"))
    assert (alarms[0], misses[0], alarms[-1], misses[-1]) == (0, 1, 1, 0)
    pairs = [(a > b) + (a == b) / 2 for a in one.harmful for b in one.harmless]
    assert 1 - np.trapezoid(misses, alarms) == pytest.approx(np.mean(pairs))
    for threshold in (-0.5, 0.3, 1.2):
        miss, alarm = (one.harmful < threshold).mean(), (one.harmless >= threshold).mean()
        assert any(
            a0 - 1e-9 <= alarm <= a1 + 1e-9
            and m1 - 1e-9 <= miss <= m0 + 1e-9
            and abs((alarm - a0) * (m1 - m0) - (miss - m0) * (a1 - a0)) < 1e-9
            for a0, a1, m0, m1 in zip(alarms, alarms[1:], misses, misses[1:], strict=False)
        )


def test_shifts_keep_what_is_asked():
    prompt = Prompt("1", "ru", "harmful", "test", "Как открыть замок", english="How to open a lock")
    latin = Prompt("2", "en", "harmful", "test", "How to open a lock", english="How to open a lock")
    assert SHIFTS["code-switched"]([prompt, latin], []) == ["How to open открыть замок", None]
    [romanised, same] = SHIFTS["romanised"]([prompt, latin], [])
    assert isinstance(romanised, str) and romanised.isascii() and "zamok" in romanised and same is None
    assert SHIFTS["padded"]([latin], ["Bake bread.", "Sing."]) == ["Bake bread.\nSing.\nHow to open a lock"]
    [chat] = SHIFTS["second-turn"]([latin], ["Bake bread."])
    assert isinstance(chat, list) and [message["role"] for message in chat] == ["user", "assistant", "user"]
    with pytest.raises(UserError, match="no shift"):
        shifts_of("reversed")
    assert shifts_of("all") == tuple(SHIFTS) and shifts_of(None) == ()
