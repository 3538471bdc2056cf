"""GPU hours of the paper's ten models, estimated; printed as the tables of docs/paper.md (a test compares them).

    step of decoding = layers * LAYER + parameters * WEIGHT        256 answers side by side
    hours            = tokens read / reading + tokens written / writing, on every card that is reserved

`LAYER`, `WEIGHT` and `READ` come from one shape measured on one card (Qwen2.5-7B, random weights, bfloat16, an H200;
docs/speed.md, "A GPU"): steps of 7.9 ms with 32 rows and 12.0 ms with 256, a sweep of 16.45 s. Reading is taken as inversely
proportional to the parameters, and every answer as 512 tokens long. Not in it: the cache that attention reads, loading,
translation, WildGuard.

    python -m bench.paper_hours
"""

from __future__ import annotations

from dataclasses import dataclass

from refusal_lens.config import AuditConfig, DataConfig, DirectionConfig, InterventionConfig, ModelConfig
from refusal_lens.directions import Shape, Speed, Workload, estimate
from refusal_lens.languages import resolve_languages
from refusal_lens.pipeline.cells import CellName, passes
from refusal_lens.report.figure1 import of_paper, published
from refusal_lens.report.shares import mean, percent

ROWS = 256
MEASURED_PARAMETERS, MEASURED_LAYERS = 7.62e9, 28
STEP_OF_32, STEP_OF_256 = 7.9e-3, 12.0e-3
"""Seconds of a recorded step of decoding, with 32 and with 256 answers."""
COPY = 4.29e12
"""Bytes a second: with 32 answers a step reads the weights once at this rate, the rest is the layers'."""
LAYER = (STEP_OF_32 - 2 * MEASURED_PARAMETERS / COPY) / MEASURED_LAYERS
WEIGHT = (STEP_OF_256 - LAYER * MEASURED_LAYERS) / MEASURED_PARAMETERS
PROMPT_TOKENS = 35.0
READ = 140 * (32 + 32 + 32 / 2) * PROMPT_TOKENS / 16.45
"""Prompt tokens a second of the sweep: 140 candidates, 32 + 32 prompts, an addition running through half of the layers."""
POSITIONS = 5
COUNTS = {"harmful": 572, "harmless": 500}
ABOVE = 1.0e11
"""Bytes of weights from which on one card of 140 GiB has no room for 256 answers beside them."""


@dataclass(frozen=True)
class Model:
    """A model of the paper: its name there, its hub id, parameters and layers as its configuration says."""

    name: str
    hub: str
    parameters: float
    layers: int

    @property
    def cards(self) -> int:
        """Cards that are reserved; with two, one works at a time."""
        return 2 if 2 * self.parameters > ABOVE else 1


MODELS = (
    Model("Yi-6B-Chat", "01-ai/Yi-6B-Chat", 6.06e9, 32),
    Model("gemma-2b-it", "google/gemma-2b-it", 2.51e9, 18),
    Model("Llama-3-8B", "meta-llama/Meta-Llama-3-8B-Instruct", 8.03e9, 32),
    Model("Llama-3-70B", "meta-llama/Meta-Llama-3-70B-Instruct", 70.55e9, 80),
    Model("Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct", 8.03e9, 32),
    Model("gemma-2-9b-it", "google/gemma-2-9b-it", 9.24e9, 42),
    Model("Qwen2.5-3B", "Qwen/Qwen2.5-3B-Instruct", 3.09e9, 36),
    Model("Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct", 7.62e9, 28),
    Model("Qwen2.5-14B", "Qwen/Qwen2.5-14B-Instruct", 14.77e9, 48),
    Model("Qwen2.5-32B", "Qwen/Qwen2.5-32B-Instruct", 32.76e9, 64),
)


def speed(model: Model) -> Speed:
    """Tokens a second that a model reads and writes on the measured card, by the two formulas above."""
    step = LAYER * model.layers + WEIGHT * model.parameters
    return Speed(reading=READ * MEASURED_PARAMETERS / model.parameters, writing=ROWS / step)


def hours(model: Model, *, bars_alone: bool, sources: tuple[str, ...] = ("en",)) -> float:
    """GPU hours of an audit of 14 languages.

    Args:
        model: The model.
        bars_alone: What Figure 1 shows and one shuffled null: `--interventions ablation --random 0`; else everything.
        sources: Languages to take directions from.

    Returns:
        Hours, summed over the reserved cards.
    """
    config = AuditConfig(
        model=ModelConfig(spec=model.hub),
        data=DataConfig(root="PolyRefuse", languages=resolve_languages("all")),
        directions=DirectionConfig(sources=sources, random=0 if bars_alone else 3),
        interventions=InterventionConfig(names=("ablation",)) if bars_alone else InterventionConfig(),
    )

    def prompts_of(cell: CellName) -> int:
        return COUNTS[cell.prompts]

    choice, languages = config.directions, len(config.data.languages)
    work = Workload(
        languages=languages,
        sources=len(sources),
        n_train=choice.n_train,
        n_val=choice.n_val,
        answers=sum(len(item.sources) * COUNTS[item.prompts] for item in passes(config, prompts_of=prompts_of)),
        prompt_tokens=PROMPT_TOKENS,
        max_new_tokens=config.generation.max_new_tokens,
        sweep="pruned",
        geometry_prompts=2 * languages * config.geometry.prompts_per_class,
        discovery=choice.discovery,
    )
    shape = Shape(model.layers, 0, 0, int(model.parameters), POSITIONS, 2, on_cpu=False)
    seconds = estimate(work, shape, speed=speed(model)).seconds
    assert seconds is not None
    return seconds * model.cards / 3600


def recorded(name: str, condition: str) -> str:
    """The paper's values of a model: mean over the languages, and its ends with their languages."""
    panel = of_paper(name)
    rates = {code: panel.shares[code, condition].rate or 0.0 for code in published()["languages"]}
    low, high = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    return f"{percent(mean(rates.values()))} ({low} {percent(rates[low])}, {high} {percent(rates[high])})"


def lines() -> list[str]:
    """The table of the page."""
    made = [
        "| model | GPU hours: Figure 1 | GPU hours: whole audit | recorded, untouched: mean (lowest, highest) | ablated |",
        "|---|---|---|---|---|",
    ]
    for model in MODELS:
        cards = f", on {model.cards} cards" if model.cards > 1 else ""
        made.append(
            f"| {model.name} | {hours(model, bars_alone=True):.1f}{cards} | {hours(model, bars_alone=False):.1f}{cards} | "
            f"{recorded(model.name, 'untouched')} | {recorded(model.name, 'ablated')} |"
        )
    return made


if __name__ == "__main__":
    print("\n".join(lines()))
