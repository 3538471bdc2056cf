"""Step `tokens`: the tokens that open the model's refusals in one language, found in its own answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from refusal_lens.directions import discover_refusal_tokens
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Document, Inputs, Output, Step, Tools
from refusal_lens.pipeline.steps.prompts import read_prompts
from refusal_lens.types import HARMS

FILE = "tokens.json"


@dataclass(frozen=True)
class Params:
    """The language, how many train prompts per class are answered, and with how many tokens."""

    language: str
    prompts: int
    max_new_tokens: int


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """One task for each language whose candidates are extracted."""
    choice = planning.config.directions
    for language in planning.extracted:
        yield Ask(
            language, Params(language, choice.discovery, choice.discovery_tokens), (f"prompts/{language}.select",)
        )


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:
    """Discover the language's refusal tokens."""
    part = f"prompts/{params.language}.select"
    harmful, harmless = (read_prompts(inputs, part, harm=harm, split="train") for harm in HARMS)
    found = discover_refusal_tokens(
        tools.model,
        harmful,
        harmless,
        language=params.language,
        judge=tools.judge,
        prompts_per_class=params.prompts,
        max_new_tokens=params.max_new_tokens,
        batch_size=tools.batch_size,
        engine=tools.engine,
    )
    return [Document(FILE, asdict(found))]


def refusal_token_ids(inputs: Inputs, language: str) -> list[int]:
    """Refusal token ids of a language; empty where none can be named, see `why_no_tokens`."""
    return [int(token) for token in inputs.json(f"tokens/{language}", FILE)["ids"]]


def why_no_tokens(inputs: Inputs, language: str) -> str:
    """Why a language has no refusal tokens: the model refuses (almost) nothing there, or thinks first."""
    return f"no refusal tokens: {inputs.json(f'tokens/{language}', FILE)['reason']}"


STEP = Step(
    name="tokens",
    version=4,
    params=Params,
    plan=plan,
    compute=compute,
    uses=("model", "judge"),
    reads=("prompts",),
)
