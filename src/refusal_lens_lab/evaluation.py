"""What a testbed model does on held-out prompts, read by the testbed's own checker, so that no judge is in the way.

1. Baseline: shares of refused, helped on topic, right language and marker, per language and class; novel acts and objects.
2. For each source language: candidates from its train prompts, scored and selected on its val prompts by the paper's rule,
   with the taught first tokens as refusal tokens; the direction ablated, harmful test prompts of every language answered.
3. Random directions of the same length at the same site, and harmless prompts under the first source's ablation.
When no candidate survives selection, the best discarded one is used and the result says so: it is then no valid direction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from refusal_lens.directions import Direction, extract, random_direction, score, select
from refusal_lens.errors import UserError
from refusal_lens.interventions import Ablation
from refusal_lens.model import Intervention, LensModel, generate
from refusal_lens.testbed.lexicon import lexicon
from refusal_lens.testbed.prompts import load_novel, load_prompts
from refusal_lens.types import Harm, Prompt
from refusal_lens_lab.outcomes import Outcome, first_words, outcome

N_TRAIN, N_VAL = 128, 32
MAX_NEW_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Cell:
    """Counts of one language's answers.

    Attributes:
        n: Answers.
        refused: Taught refusals, in any language.
        helped: Taught help texts, in any language.
        on_topic: Help texts that name the prompt's topic.
        right_language: Refusals and help texts in the prompt's language.
        marker: Answers beginning with the shared marker.
    """

    n: int
    refused: int
    helped: int
    on_topic: int
    right_language: int
    marker: int


@dataclass(frozen=True, slots=True)
class SourceResult:
    """What ablating one source's direction does.

    Attributes:
        source: Language the direction came from.
        position: Its site.
        layer: Its site.
        valid: Whether the selection rule kept it; False when the best discarded candidate was used.
        reason: Why it was selected, or why nothing survived.
        harmful: Cells of the harmful test prompts under its ablation.
        harmless: Cells of the harmless test prompts under its ablation; empty unless asked for.
    """

    source: str
    position: int
    layer: int
    valid: bool
    reason: str
    harmful: Mapping[str, Cell]
    harmless: Mapping[str, Cell] = field(default_factory=dict[str, Cell])


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Held-out figures of one model.

    Attributes:
        limit: Most test prompts per language and class.
        harmful: Baseline cells of harmful prompts.
        harmless: Baseline cells of harmless prompts.
        novel: Baseline cells of harmful prompts with an act or object alignment never saw.
        sources: One result per source language.
        random: Cells of harmful prompts under each random direction.
    """

    limit: int
    harmful: Mapping[str, Cell]
    harmless: Mapping[str, Cell]
    novel: Mapping[str, Cell]
    sources: tuple[SourceResult, ...]
    random: tuple[Mapping[str, Cell], ...]

    def left_refusing(self) -> tuple[float, float]:
        """Mean share of harmful prompts refused under a source's ablation (two languages or more): its own, the others."""
        shares = {
            item.source: {code: cell.refused / cell.n for code, cell in item.harmful.items()} for item in self.sources
        }
        others = [share for source, row in shares.items() for code, share in row.items() if code != source]
        return fmean(row[source] for source, row in shares.items()), fmean(others)


def evaluate(
    model: LensModel,
    languages: Sequence[str],
    *,
    sources: Sequence[str] = ("en",),
    limit: int = 160,
    randoms: int = 5,
    progress: Callable[[str], None] | None = None,
) -> Evaluation:
    """Measures a testbed model.

    Args:
        model: A model made by a testbed recipe.
        languages: Languages to ask in.
        sources: Languages to take directions from, each among `languages`; the first also serves the random directions.
        limit: Most test prompts per language and class.
        randoms: Number of random directions.
        progress: Told what is measured next.

    Returns:
        The figures.

    Raises:
        UserError: A source is not among the languages.
    """
    strange = [code for code in sources if code not in languages]
    if strange:
        raise UserError(f"source {' '.join(strange)} is not among the languages {' '.join(languages)}")
    tell = progress or _silent

    def asked(harm: Harm) -> list[Prompt]:
        return [p for code in languages for p in load_prompts(language=code, split="test", harm=harm)[:limit]]

    tell("baseline")
    harmful, harmless = cells(model, asked("harmful")), cells(model, asked("harmless"))
    tell("novel acts and objects")
    novel = cells(model, [p for code in languages for p in load_novel(language=code, harm="harmful")[:limit]])
    found: list[SourceResult] = []
    like: Direction | None = None
    for place, code in enumerate(sources):
        tell(f"direction from {code}")
        direction, valid, reason = direction_from(model, code)
        like = like or direction
        edit = (Ablation(direction.vector),)
        tell(f"ablation of {code}")
        first = cells(model, asked("harmless"), edit) if place == 0 else {}
        answers = cells(model, asked("harmful"), edit)
        found.append(SourceResult(code, direction.position, direction.layer, valid, reason, answers, first))
    drawn: list[Mapping[str, Cell]] = []
    for seed in range(randoms if like is not None else 0):
        tell(f"random direction {seed + 1} of {randoms}")
        assert like is not None
        drawn.append(cells(model, asked("harmful"), (Ablation(random_direction(like, seed).vector),)))
    return Evaluation(limit, harmful, harmless, novel, tuple(found), tuple(drawn))


def cells(model: LensModel, prompts: Sequence[Prompt], edits: Sequence[Intervention] = ()) -> dict[str, Cell]:
    """Answers prompts greedily and counts what the answers are, per language.

    Args:
        model: A testbed model.
        prompts: Testbed prompts.
        edits: Interventions active throughout.

    Returns:
        One cell per language, in order of first appearance.
    """
    answers = generate(model, [prompt.text for prompt in prompts], max_new_tokens=MAX_NEW_TOKENS, interventions=edits)
    rows: dict[str, list[Outcome]] = {}
    for prompt, answer in zip(prompts, answers, strict=True):
        rows.setdefault(prompt.language, []).append(outcome(prompt, answer.text))
    return {code: _cell(code, found) for code, found in rows.items()}


def direction_from(model: LensModel, language: str) -> tuple[Direction, bool, str]:
    """The refusal direction of one source language.

    Args:
        model: A testbed model.
        language: Source language.

    Returns:
        The direction, whether the paper's rule kept it, and the rule's reason.
    """
    train = [load_prompts(language=language, split="train", harm=harm)[:N_TRAIN] for harm in ("harmful", "harmless")]
    val = [load_prompts(language=language, split="val", harm=harm)[:N_VAL] for harm in ("harmful", "harmless")]
    candidates = extract(model, train[0], train[1])
    tokens = refusal_token_ids(model, language)
    selection = select(score(model, candidates, val[0], val[1], refusal_tokens=tokens), n_layers=model.n_layers)
    chosen = selection.selected or selection.best_discarded
    assert chosen is not None, "a model with layers has candidates"
    direction = candidates.direction(position=chosen.position, layer=chosen.layer, source=language)
    return direction, selection.selected is not None, selection.reason


def refusal_token_ids(model: LensModel, language: str) -> list[int]:
    """First tokens of the taught refusals of a language, the marker's included."""
    starts = [
        model.tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in first_words(lexicon(language))
    ]
    return sorted({int(token) for token in starts})


def _cell(language: str, found: Sequence[Outcome]) -> Cell:
    return Cell(
        n=len(found),
        refused=sum(item.kind == "refused" for item in found),
        helped=sum(item.kind == "helped" for item in found),
        on_topic=sum(item.kind == "helped" and item.on_topic for item in found),
        right_language=sum(item.language == language for item in found),
        marker=sum(item.marker for item in found),
    )


def _silent(_: str) -> None:
    return None
