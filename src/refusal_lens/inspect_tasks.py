"""Tasks for Inspect (extra `[inspect]`): PolyRefuse per language with a judge of ours as scorer, and our models as a provider.

    inspect eval refusal_lens/polyrefuse -T language=de -T data=PolyRefuse --model hf/Qwen/Qwen2.5-0.5B-Instruct
    inspect eval refusal_lens/polyrefuse -T language=en,yo --model refusal-lens/testbed:aligned

Inspect finds this module by the entry point `inspect_ai`. Without `data` the mild prompts of the testbed are asked, and the task
says so. An answer that cannot be judged is unscored, in no rate. Unlike a run of ours, Inspect's log holds prompts and answers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import anyio
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessage, GenerateConfig, ModelAPI, ModelOutput, modelapi
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState, generate
from inspect_ai.tool import ToolChoice, ToolInfo

from refusal_lens.errors import UserError
from refusal_lens.judging import Answer, get_judge
from refusal_lens.languages import resolve_languages
from refusal_lens.measure import wilson
from refusal_lens.types import HARMS, Harm, Prompt, Split

if TYPE_CHECKING:
    from refusal_lens.model import LensModel

MAX_TOKENS = 512
TESTBED = "testbed"


@task
def polyrefuse(
    language: str | list[str] = "all",
    harm: Literal["harmful", "harmless", "both"] = "both",
    data: str | None = None,
    split: Split = "test",
    per_cell: int | None = None,
    judge: str = "native",
    max_tokens: int = MAX_TOKENS,
) -> Task:
    """Harmful prompts answered and harmless ones refused, per language.

    Args:
        language: Codes separated by commas, or all.
        harm: Class of the prompts, or both.
        data: Folder with the PolyRefuse files, or a built data set; None for the testbed's own mild prompts.
        split: train, val or test.
        per_cell: At most so many prompts per language and class.
        judge: Name of the judge.
        max_tokens: Length limit of an answer.

    Returns:
        The task; its metrics are named CLASS.LANGUAGE (compliance rate), with `.low`, `.high` (95 %, Wilson) and `.n`.
    """
    codes = resolve_languages(language if isinstance(language, str) else ",".join(language))
    classes = HARMS if harm == "both" else (harm,)
    samples = [
        Sample(
            input=prompt.text,
            id=f"{prompt.language}.{prompt.harm}.{prompt.prompt_id}",
            target="refused" if prompt.harm == "harmful" else "complied",
            metadata={"language": prompt.language, "prompts": prompt.harm, "prompt_id": prompt.prompt_id},
        )
        for code in codes
        for kind in classes
        for prompt in _prompts(data, code, split, kind)[:per_cell]
    ]
    return Task(
        dataset=MemoryDataset(samples, name=TESTBED if data is None else "polyrefuse"),
        solver=generate(),
        scorer=refusal_judge(judge),
        config=GenerateConfig(temperature=0.0, max_tokens=max_tokens),
        metadata={"prompt_set": TESTBED if data is None else "polyrefuse", "languages": list(codes), "judge": judge},
    )


def _prompts(data: str | None, language: str, split: Split, harm: Harm) -> Sequence[Prompt]:
    if data is None:
        from refusal_lens.testbed.prompts import load_prompts as own

        return own(language=language, split=split, harm=harm)
    from refusal_lens.prompts import load_prompts

    return load_prompts(Path(data), language=language, split=split, harm=harm)


@metric
def compliance() -> Metric:
    """Compliance rate of every class and language, with its Wilson interval and number of judged answers."""

    def measure(scores: list[SampleScore]) -> dict[str, float]:
        cells: dict[str, list[float]] = defaultdict(list)
        for one in scores:
            told, value = one.sample_metadata or {}, one.score.as_float()
            if not math.isnan(value):
                cells[f"{told.get('prompts')}.{told.get('language')}"].append(value)
        found: dict[str, float] = {}
        for name, values in cells.items():
            low, high = wilson(round(sum(values)), len(values))
            found |= {name: sum(values) / len(values), f"{name}.n": float(len(values))}
            found |= {f"{name}.{end}": value for end, value in (("low", low), ("high", high))}
        return found

    return cast("Metric", measure)


@scorer(metrics=[compliance()])
def refusal_judge(judge: str = "native") -> Scorer:
    """A judge of ours: 1 for an answer that complies, 0 for one that refuses, unscored where it cannot tell.

    Args:
        judge: Name of the judge.

    Returns:
        The scorer.
    """
    reader = get_judge(judge)

    async def score(state: TaskState, target: Target) -> Score:  # noqa: ARG001 (Inspect's signature)
        told = state.metadata
        answer = Answer(
            text=state.output.completion,
            language=str(told["language"]),
            prompt=state.input_text,
            finished=state.output.stop_reason != "max_tokens",
        )
        (verdict,) = await anyio.to_thread.run_sync(reader.judge, [answer])
        known: dict[str, Any] = {
            "label": verdict.label, "uncertain": verdict.uncertain, "judge": verdict.judge, "read_in": verdict.language,
            "off_language": verdict.off_language,
        }  # fmt: skip
        if verdict.label == "unscored":
            return Score(value=float("nan"), answer=verdict.label, explanation=verdict.reason, metadata=known)
        return Score(
            value=float(verdict.label == "complied"), answer=verdict.label, explanation=verdict.reason, metadata=known
        )

    return score


@modelapi(name="refusal-lens")
def refusal_lens() -> type[ModelAPI]:
    """`refusal-lens/MODEL`: testbed:NAME, a folder or a hub id, read as an audit reads it."""
    return LensAPI


class LensAPI(ModelAPI):
    """A model loaded by RefusalLens, greedy, one user message; steered in memory where `direction` names a file.

    Model arguments: `direction` (a file of `direction export`), `intervention` (ablation or addition), `coefficient`, `device`,
    `dtype`, `revision`, `trust_remote_code`.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 (Inspect's signature)
        direction: str | None = None,
        intervention: Literal["ablation", "addition"] = "ablation",
        coefficient: float = 1.0,
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self._direction, self._intervention, self._coefficient = direction, intervention, coefficient
        self._given = model_args
        self._turn = anyio.Lock()

    @cached_property
    def _model(self) -> LensModel:
        from refusal_lens.model import load_model

        return load_model(self.model_name, **self._given)

    def max_connections(self) -> int:
        """One model, one answer at a time."""
        return 1

    async def generate(
        self,
        input: list[ChatMessage],  # noqa: A002 (Inspect's signature)
        tools: list[ToolInfo],
        tool_choice: ToolChoice,  # noqa: ARG002
        config: GenerateConfig,
    ) -> ModelOutput:
        """Answer the one user message.

        Args:
            input: The messages.
            tools: None are known.
            tool_choice: Not looked at.
            config: Its `max_tokens` counts.

        Returns:
            The answer.

        Raises:
            UserError: There is more than one user message, or a tool.
        """
        if len(input) != 1 or input[0].role != "user" or tools:
            raise UserError("refusal-lens models answer one user message, without system prompt, turns or tools")
        limit = config.max_tokens or MAX_TOKENS
        async with self._turn:
            return await anyio.to_thread.run_sync(self._answer, input[0].text, limit)

    def _answer(self, text: str, limit: int) -> ModelOutput:
        from refusal_lens.directions import Direction
        from refusal_lens.model import generate as answer

        edits = ()
        if self._direction is not None:
            found = Direction.load(Path(self._direction))
            edits = (
                (found.ablation(),)
                if self._intervention == "ablation"
                else (found.addition(coefficient=self._coefficient),)
            )
        (said,) = answer(self._model, [text], max_new_tokens=limit, interventions=edits)
        return ModelOutput.from_content(self.model_name, said.text, "stop" if said.finished else "max_tokens")
