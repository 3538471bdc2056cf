"""Numbers and what they are worth: rates, intervals, paired tests, nulls, verdicts. Pure functions, no torch."""

from refusal_lens.core.names import is_null
from refusal_lens.measure.compare import cells_of, compare_runs, noise_floor
from refusal_lens.measure.content import content_rows, on_topic_by_overlap
from refusal_lens.measure.damage import Damage, damage_row
from refusal_lens.measure.explain import LeakRow, why_languages_leak
from refusal_lens.measure.gate import run_gate
from refusal_lens.measure.gate_cells import Check
from refusal_lens.measure.gate_files import as_json, junit, markdown, parse_limits, standing
from refusal_lens.measure.intervals import wilson
from refusal_lens.measure.leak import RankCorrelation, rank_correlation
from refusal_lens.measure.multiplicity import holm
from refusal_lens.measure.paired import BootstrapWeights, Paired, compare_paired, mcnemar_exact
from refusal_lens.measure.power import mcnemar_power, minimum_detectable_effect
from refusal_lens.measure.rates import Rate, rate_of, rate_rows
from refusal_lens.measure.selectivity import difference_of_rates, selectivity_rows
from refusal_lens.measure.transfer import CONTRACT, raised, transfer_rows
from refusal_lens.measure.universality import Effect, Target, read_targets
from refusal_lens.measure.verdict import LanguageVerdict, ModelVerdict, judge_model

__all__ = [
    "CONTRACT",
    "BootstrapWeights",
    "Check",
    "Damage",
    "Effect",
    "LanguageVerdict",
    "LeakRow",
    "ModelVerdict",
    "Paired",
    "RankCorrelation",
    "Rate",
    "Target",
    "as_json",
    "cells_of",
    "compare_paired",
    "compare_runs",
    "content_rows",
    "damage_row",
    "difference_of_rates",
    "holm",
    "is_null",
    "judge_model",
    "junit",
    "markdown",
    "mcnemar_exact",
    "mcnemar_power",
    "minimum_detectable_effect",
    "noise_floor",
    "on_topic_by_overlap",
    "parse_limits",
    "raised",
    "rank_correlation",
    "rate_of",
    "rate_rows",
    "read_targets",
    "run_gate",
    "selectivity_rows",
    "standing",
    "transfer_rows",
    "why_languages_leak",
    "wilson",
]
