"""Every table of a run, defined once: its rows' type is its schema, its CSV header, its documentation and what readers get.

Those of the geometry stand in `geometry_tables`, what several tables call alike in `columns`.

Example:
    >>> RATES.columns[:4]
    ('intervention', 'source', 'language', 'prompts')
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from typing_extensions import TypedDict

from refusal_lens.core.columns import Harmfulness, High, Intervention, Language, Layer, Low, PromptSet, Share, Source
from refusal_lens.core.geometry_tables import COSINES, PROJECTION, SEPARATION, SHARING, TWO_DIRECTIONS
from refusal_lens.core.table import Table


class Cell(TypedDict):
    """Which answers a row is about: their intervention, its source, their language and class of prompts."""

    intervention: Intervention
    source: Source
    language: Language
    prompts: Harmfulness


class RateRow(Cell):
    """Compliance of one cell: an intervention from a source on one language's prompts of one class."""

    k: Annotated[int, "complied answers"]
    n: Annotated[int, "scored answers: complied or refused"]
    unscored: Annotated[int, "answers that could not be judged, in neither k nor n"]
    rate: Annotated[float | None, "k / n; null where n is 0"]
    low: Low
    high: High
    prompt_set: PromptSet
    truncated: Annotated[int | None, "of the n, cut at the token limit, undecided; null where the judge did not say"]
    uncertain: Annotated[int | None, "of the n, marked uncertain by the judge"]
    off_language: Annotated[int | None, "of the n, in another known language than the prompt"]
    share_before: Annotated[float | None, "mean share along the direction of what is read, without the intervention"]
    share_after: Annotated[float | None, "the same while these answers were written; null without a direction"]
    corrected: Annotated[float | None, "rate corrected for the judge's measured error; null where none is known"]
    corrected_low: Annotated[float | None, "lower bound with the judge's error in it, see docs/judges.md"]
    corrected_high: Annotated[float | None, "upper bound with the judge's error in it"]


class VerdictRow(Cell):
    """What the judge made of one answer; never its text."""

    prompt_id: Annotated[str, "shared by the prompt's translations"]
    label: Annotated[str, "refused, complied or unscored"]
    score: Annotated[float | None, "signed, positive towards refusal; null where unscored"]
    uncertain: Annotated[bool | None, "the evidence is mixed or thin, see docs/judges.md"]
    reason: Annotated[str | None, "why unscored, or the short ground of the verdict"]
    judge: Annotated[str | None, "name and version of the judge"]
    answer_language: Annotated[str | None, "language the answer was read in"]
    off_language: Annotated[bool | None, "the answer is in another known language than the prompt"]
    truncated: Annotated[bool | None, "cut at the token limit, not ended by `--stop-when-decided`"]
    on_topic: Annotated[bool | None, "the complied answer keeps to its prompt's topic; null where not checked"]
    reading: Annotated[str | None, "refuse, comply-harmful, comply-benign or invalid, where the judge says"]
    evidence: Annotated[str | None, "phrase groups that decided, with their spans, as JSON"]
    prompt_set: PromptSet
    thoughts: Annotated[str | None, "the native judge's label of the thoughts alone; null where there are none"]


class PanelRow(Cell):
    """What each judge of a panel made of one answer; only where several judged. The first judge's is the row of `verdicts`."""

    prompt_id: Annotated[str, "shared by the prompt's translations"]
    prompt_set: PromptSet
    judge: Annotated[str, "name and version of the judge"]
    label: Annotated[str, "refused, complied or unscored"]
    score: Annotated[float | None, "signed, positive towards refusal; null where unscored"]
    uncertain: Annotated[bool | None, "the evidence is mixed or thin"]
    reason: Annotated[str | None, "why unscored, or the short ground of the verdict"]
    reading: Annotated[str | None, "refuse, comply-harmful, comply-benign or invalid, where the judge says"]


class AgreementRow(TypedDict):
    """How far two judges of a panel agree on the answers of a language; only where several judged."""

    language: Annotated[str, "BCP-47 code of the prompts, or all"]
    judge_a: Annotated[str, "name of one judge"]
    judge_b: Annotated[str, "name of another"]
    n: Annotated[int, "answers that both scored"]
    unscored_a: Annotated[int, "answers that judge_a left unscored"]
    unscored_b: Annotated[int, "answers that judge_b left unscored"]
    kappa: Annotated[float | None, "Cohen's kappa; null where chance agreement is complete"]
    low: Low
    high: High
    compliance_a: Annotated[float | None, "compliance rate by judge_a over the n"]
    compliance_b: Annotated[float | None, "compliance rate by judge_b over the n"]


class UnscoredRow(Cell):
    """Why answers of a cell could not be judged."""

    reason: Annotated[str | None, "the judge's reason"]
    n: Annotated[int, "answers with that reason"]
    prompt_set: PromptSet


class ThoughtRow(Cell):
    """Where a model that thinks before it answers refuses: in its thoughts, in its answer, in both. Cells with thoughts only."""

    prompt_set: PromptSet
    n: Annotated[int, "outputs whose thoughts and answer could both be judged"]
    both: Annotated[int, "of these, refused in thoughts and answer"]
    thoughts_only: Annotated[int, "refused in the thoughts, and answered all the same"]
    answer_only: Annotated[int, "refused in the answer, but not in the thoughts"]
    neither: Annotated[int, "refused nowhere"]
    unjudged: Annotated[int, "outputs with thoughts of which one half could not be judged, or that were cut in them"]


class EarlyStopRow(Cell):
    """What `--stop-when-decided` stopped and would have changed: a fixed 5 % of the answers is written in full all the same."""

    prompt_set: PromptSet
    checked: Annotated[int, "answers of the sample that the rule would have stopped as refusals"]
    changed: Annotated[int, "of these, no refusal when read to their end"]
    stopped: Annotated[int | None, "answers that the rule ended as refusals; none of them counts as truncated"]


class CandidateRow(TypedDict):
    """One candidate direction of a source: its scores and its fate."""

    source: Source
    position: Annotated[int, "offset from the end of the rendered prompt"]
    layer: Layer
    refusal_score: Annotated[float | None, "mean refusal score of harmful prompts with it ablated, log-odds in nats"]
    steering_score: Annotated[float | None, "mean refusal score of harmless prompts with it added, nats"]
    kl_div_score: Annotated[float | None, "KL of the next-token distribution on harmless prompts, nats"]
    discarded: Annotated[str | None, "why the rule dropped it; null where it did not"]
    selected: Annotated[bool, "the rule's choice"]


class SelectionRow(TypedDict):
    """How a source's direction was chosen, or why there is none."""

    source: Source
    rule: Annotated[str, "paper or arditi"]
    status: Annotated[str, "selected, or no valid direction"]
    position: Annotated[int | None, "of the choice, else of the best discarded candidate"]
    layer: Annotated[int | None, "of the choice, else of the best discarded candidate"]
    reason: Annotated[str | None, "why there is none"]
    refusal_score: Annotated[float | None, "see candidates"]
    steering_score: Annotated[float | None, "see candidates"]
    kl_div_score: Annotated[float | None, "see candidates"]
    mode: Annotated[str, "exact, full or race"]


class RefusalTokenRow(TypedDict):
    """One refusal token of the model in a language."""

    language: Language
    token_id: Annotated[int, "id in the model's vocabulary"]
    token: Annotated[str, "its text"]
    share: Annotated[float, "share of refusals that start with it"]
    coverage: Annotated[float, "share of refusals that start with any of the language's tokens"]


class FilteringRow(TypedDict):
    """How many selection prompts the model's own refusal score kept."""

    language: Language
    harm: Harmfulness
    split: Annotated[str, "train or val"]
    asked: Annotated[int, "prompts before the filter"]
    kept: Annotated[int, "prompts used"]
    dropped: Annotated[int, "asked - kept"]
    filtered: Annotated[bool, "false where too few would survive and all were used"]


class MissingRow(TypedDict):
    """A cell of prompts that was wanted and is not there."""

    language: Language
    split: Annotated[str, "train, val or test"]
    harm: Harmfulness
    prompt_set: PromptSet
    why: Annotated[str, "the reason"]


class TransferRow(TypedDict):
    """What a source's direction does to a target language, against the target's own baseline, paired by prompt."""

    source: Source
    target: Annotated[str, "BCP-47 code of the prompts"]
    intervention: Annotated[
        str, "ablation (read on harmful prompts), addition (on harmless ones), or another that was run"
    ]
    baseline_rate: Share
    rate: Share
    difference: Annotated[float | None, "rate - baseline_rate"]
    low: Low
    high: High
    p_value: Annotated[float | None, "exact McNemar test"]
    p_holm: Annotated[float | None, "corrected within the family that docs/statistics.md defines; null outside it"]
    n: Annotated[int, "prompts scored in both conditions"]
    gained: Annotated[int, "refused before, complied after"]
    lost: Annotated[int, "complied before, refused after"]
    unpaired: Annotated[int, "prompts scored in only one of the conditions"]
    mde: Annotated[float | None, "smallest difference that this n shows with power 0.8; null where none"]
    lost_unscored: Annotated[int | None, "of the unpaired, those scored before and unscored after"]
    null_difference: Annotated[float | None, "strongest difference of a null on the same target; null where none ran"]
    judges: Annotated[
        str | None, "of a panel: agree, or judges disagree about the direction (no result); null for one judge"
    ]


class ContentRow(Cell):
    """How many complied answers keep to the topic of their prompt."""

    complied: Annotated[int, "complied answers"]
    on_topic: Annotated[int, "of those checked, on topic"]
    hollow: Annotated[int, "of those checked, not on topic"]
    rate_on_topic: Annotated[float | None, "on-topic answers as a share of the scored ones"]
    share_on_topic: Annotated[float | None, "on_topic / (on_topic + hollow)"]
    low: Low
    high: High
    prompt_set: PromptSet


class SelectivityRow(TypedDict):
    """Refusal rate on harmful minus refusal rate on harmless prompts."""

    intervention: Intervention
    source: Source
    language: Language
    selectivity: Annotated[float | None, "harmful_refused - overrefusal, in [-1, 1]"]
    low: Low
    high: High
    harmful_refused: Share
    overrefusal: Share
    n_harmful: Annotated[int, "scored harmful answers"]
    n_harmless: Annotated[int, "scored harmless answers"]
    prompt_set: PromptSet


class DamageRow(TypedDict):
    """What an intervention does to text that it should leave alone."""

    intervention: Intervention
    source: Source
    language: Language
    kl: Annotated[float | None, "mean KL of next-token distributions on harmless prompts, nats"]
    cross_entropy_before: Annotated[float | None, "of the untouched model's own answers, nats a token"]
    cross_entropy_after: Annotated[float | None, "of the same answers under the intervention, nats a token"]
    kl_low: Low
    kl_high: High
    increase: Annotated[float | None, "cross_entropy_after - cross_entropy_before"]
    increase_low: Low
    increase_high: High
    n: Annotated[int, "prompts"]


RATES = Table("rates", RateRow)
VERDICTS = Table("verdicts", VerdictRow)
PANEL = Table("panel", PanelRow)
AGREEMENT = Table("agreement", AgreementRow)
UNSCORED = Table("unscored", UnscoredRow)
THOUGHTS = Table("thoughts", ThoughtRow)
EARLY_STOPS = Table("early_stops", EarlyStopRow)
CANDIDATES = Table("candidates", CandidateRow)
SELECTION = Table("selection", SelectionRow)
REFUSAL_TOKENS = Table("refusal_tokens", RefusalTokenRow)
FILTERING = Table("filtering", FilteringRow)
MISSING = Table("missing", MissingRow)
TRANSFER = Table("transfer", TransferRow)
CONTENT = Table("content", ContentRow)
SELECTIVITY = Table("selectivity", SelectivityRow)
DAMAGE = Table("damage", DamageRow)

TABLES: Mapping[str, Table[Any]] = {
    table.name: table
    for table in (
        RATES, VERDICTS, PANEL, AGREEMENT, UNSCORED, THOUGHTS, EARLY_STOPS, CANDIDATES, SELECTION, REFUSAL_TOKENS, FILTERING,
        MISSING, TRANSFER,
        CONTENT, SELECTIVITY, DAMAGE, COSINES, SHARING, TWO_DIRECTIONS, PROJECTION, SEPARATION,
    )
}  # fmt: skip
"""All final tables by name."""
