"""The one configuration tree of an audit: frozen, validated, saved whole with every run.

Built from the command line or from a TOML file (`reading`). What only decides how work travels (executor, workers, batch
size, device) lives in `Transport` and never enters a step's key; everything else may.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from refusal_lens.core.interventions import DECLARED
from refusal_lens.types import JsonValue, Rule

SCHEMA_VERSION = 1

Positive: TypeAlias = Annotated[int, Strict(), Field(ge=1)]
NonNegative: TypeAlias = Annotated[int, Strict(), Field(ge=0)]
Seed: TypeAlias = Annotated[int, Strict(), Field(ge=0, lt=2**32)]
"""Strict: `true` and `"3"` are no numbers. A seed is what every generator takes."""


Limit: TypeAlias = Annotated[float, Strict(), Field(ge=0, le=1)]


class _Frozen(BaseModel):
    # NaN and infinity can stand in TOML but not in JSON, of which keys and manifests are made.
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class ModelConfig(_Frozen):
    """Which model, and how its weights and template are read."""

    spec: str = Field(min_length=1, description="testbed:NAME, a folder, or a hub id")
    revision: str | None = Field(default=None, description="revision of a hub model: branch, tag or commit")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="number format: auto, float32, bfloat16, float16"
    )
    chat_template: str | None = Field(default=None, description="jinja file for a model without a chat template")
    thinking: Literal["auto", "on", "off"] = Field(
        default="auto", description="turn thinking on or off by the chat template's own switch"
    )
    trust_remote_code: bool = Field(default=False, description="let Python code that comes with the model run")
    accept_inexact: bool = Field(default=False, description="go on with a model that fails its checks, and mark it")


class DataConfig(_Frozen):
    """Which prompts: a PolyRefuse folder (`root`), a file of one's own (`prompts`), or the testbed's own."""

    root: str | None = Field(
        default=None, description="folder with the PolyRefuse files; a testbed brings its own prompts"
    )
    prompts: str | None = Field(default=None, description="CSV, TSV, Parquet, JSON or JSON Lines file, a row a prompt")
    columns: dict[str, str] = Field(default={}, description="columns of that file with other names, e.g. text = goal")
    languages: tuple[str, ...] = Field(
        min_length=1, description="target languages; on the command line all, or those of the prompt file"
    )
    limit: Positive | None = Field(default=None, description="test prompts per language and class")
    prompt_sets: tuple[str, ...] = Field(default=(), description="further test sets in the data folder, e.g. xstest")


class DirectionConfig(_Frozen):
    """How directions are extracted and selected (defaults: the paper's)."""

    sources: tuple[str, ...] = Field(default=("en",), min_length=1, description="languages to take directions from")
    n_train: Positive = Field(default=128, description="train prompts per class")
    n_val: Positive = Field(default=32, description="validation prompts per class")
    rule: Rule = Field(default="paper", description="selection rule: paper or arditi")
    kl_threshold: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="KL threshold, nats; unset: the rule's own"
    )
    mode: Literal["exact", "race"] = Field(default="exact", description="selection sweep: exact or race")
    layer_step: Positive = Field(default=1, description="score candidates of every n-th layer alone; 1: of all")
    full_sweep: bool = Field(default=False, description="also score candidates that the rule discards anyway")
    filter: bool = Field(
        default=True, description="keep only prompts on which the model itself behaves as their class says"
    )
    discovery: Positive = Field(default=32, description="train prompts per class answered to find refusal tokens")
    discovery_tokens: Positive = Field(default=48, description="length limit of these answers")
    random: NonNegative = Field(default=3, description="random null directions of equal norm")
    shuffled: bool = Field(default=True, description="a null direction from shuffled labels, too")
    pooled: bool = Field(default=True, description="with two sources or more, their means as directions, too")


def _options_of(name: str, common: Mapping[str, JsonValue], own: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Every option of an intervention: its own setting, else one made for all, else the default; or a ValueError."""
    if name not in DECLARED:
        raise ValueError(f"no intervention is named {name!r}{hint(name, DECLARED)}")
    options = DECLARED[name].options
    known = options.__dataclass_fields__
    for option in own:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}{hint(option, known)}")
    given = {option: value for option, value in {**common, **own}.items() if option in known}
    adapter = TypeAdapter(options)
    try:
        made: dict[str, JsonValue] = adapter.dump_python(adapter.validate_python(given))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{name}: option {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    for option, value in made.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name}: option {option}: Input should be a finite number")
    return made


def hint(wrong: str, known: Iterable[str]) -> str:
    """The nearest known name, or all of them, to end a message with."""
    near = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known) or 'none'}"


class InterventionConfig(_Frozen):
    """What is done with a direction."""

    ablation: bool = Field(default=True, description="remove the direction")
    addition: bool = Field(default=True, description="add the direction")
    side_effects: bool = Field(
        default=True, description="also ablate on harmless and add on harmful prompts, and measure damage"
    )
    affine: bool = Field(default=False, description="ablate to the harmless mean instead of zero")
    variant: Literal["exact", "published"] = Field(
        default="exact", description="ablation: exact, or published (leaks in post-norm models)"
    )
    coefficient: float = Field(default=1.0, description="strength of the addition")
    names: tuple[str, ...] = Field(default=(), description="which run, by name, in place of the first two switches")
    options: dict[str, dict[str, JsonValue]] = Field(default={}, description="options of one intervention alone")

    @property
    def chosen(self) -> dict[str, dict[str, JsonValue]]:
        """Every intervention that runs, with all its options: its own, else those set for all, else the default."""
        switched = [name for name, on in (("ablation", self.ablation), ("addition", self.addition)) if on]
        common: dict[str, JsonValue] = {"affine": self.affine, "variant": self.variant, "coefficient": self.coefficient}
        return {name: _options_of(name, common, self.options.get(name, {})) for name in self.names or switched}

    @model_validator(mode="after")
    def _known_and_whole(self) -> InterventionConfig:
        if len(set(self.names)) < len(self.names):
            raise ValueError("names: each intervention runs once; give one name to one set of options")
        chosen = self.chosen  # a wrong name or option is an error here, not when the audit is planned
        idle = [name for name in self.options if name not in chosen]
        if idle:
            raise ValueError(f"options of {', '.join(idle)}, which does not run; what runs: {', '.join(chosen)}")
        return self


class GenerationConfig(_Frozen):
    """How answers are written: greedy, up to a token limit."""

    max_new_tokens: Positive = Field(default=512, description="length limit of an answer; a testbed's own prompts: 48")
    shard_size: Positive = Field(
        default=256, description="answers of one task: what a crash can cost, on a GPU up to four of them"
    )
    stop_when_decided: bool = Field(default=False, description="stop an answer once it is surely a refusal")


class GeometryConfig(_Frozen):
    """What the geometry step measures and how finely."""

    enabled: bool = Field(default=True, description="measure the geometry at all")
    prompts_per_class: Positive = Field(default=64, description="prompts per language and class")
    bootstrap: Positive = Field(default=200, description="resamples behind the intervals")
    permutations: Positive = Field(default=100, description="permuted labels behind the nulls")
    base: str | None = Field(default=None, description="unaligned base model, the null of the cosines")


class Transport(_Frozen):
    """How work travels; never part of a key."""

    executor: Literal["local", "ray"] = Field(default="local", description="local or ray")
    workers: Positive = Field(default=1, description="worker processes; a testbed in many languages: one a core")
    address: str | None = Field(default=None, description="address of a Ray cluster")
    gpus_per_worker: Annotated[float, Field(ge=0)] = Field(default=0.0, description="GPUs of each Ray worker")
    store: str | None = Field(
        default=None, description="URL (s3://..) through which workers without a shared disk exchange results"
    )
    batch_size: Literal["auto"] | Positive = Field(default="auto", description="rows of a forward pass, or auto")
    concurrency: Positive = Field(default=8, description="requests under way at once, where MODEL is an endpoint")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps or a device map")
    engine: Literal["auto", "hf", "vllm"] = Field(
        default="auto", description="what writes answers: hf (transformers), vllm, or auto (vllm on a GPU)"
    )
    tensor_parallel: Positive = Field(default=1, description="devices over which vLLM spreads the model")
    plain: bool = Field(default=False, description="call the model anew for every token: slower, the same answers")


class GateConfig(_Frozen):
    """What `gate --config` asks of a run; an audit only checks that it could be read."""

    max_compliance: Limit | dict[str, Limit] | None = Field(
        default=None, description="most harmful prompts answered: one limit, or one a language: {en = 0.05, de = 0.1}"
    )
    max_overrefusal: Limit | dict[str, Limit] | None = Field(
        default=None, description="most harmless prompts refused, in the same way"
    )
    against: str | None = Field(default=None, description="earlier run: nothing may have become worse")
    trust_judge: tuple[str, ...] = Field(
        default=(), description="languages whose judge is believed unvalidated, or all"
    )
    allow_undecided: bool = Field(default=False, description="pass where nothing but more prompts is missing")
    prompt_set: str | None = Field(default=None, description="prompt set to check; unset: the run's first")
    junit: str | None = Field(default=None, description="file for the checks as JUnit XML")
    summary: str | None = Field(default=None, description="file for the checks as Markdown")


class AuditConfig(_Frozen):
    """Everything an audit is asked to do."""

    schema_version: Literal[1] = Field(default=SCHEMA_VERSION, description="version of these settings")
    model: ModelConfig
    data: DataConfig
    directions: DirectionConfig = DirectionConfig()
    interventions: InterventionConfig = InterventionConfig()
    generation: GenerationConfig = GenerationConfig()
    geometry: GeometryConfig = GeometryConfig()
    judge: str = Field(default="native", description="native, wildguard, polyguard, qwen3guard, encoder or endpoint")
    translate: str = Field(
        default="", description="translate answers to English before judging: hf:MODEL or endpoint:URL#MODEL"
    )
    thinking_format: str = Field(
        default="auto", description="how thoughts stand in answers: auto, none, think, harmony or a regular expression"
    )
    seed: Seed = Field(default=0, description="seed of sampling and null directions")
    baseline_only: bool = Field(
        default=False, description="measure the untouched model alone: no directions, no geometry"
    )
    transport: Transport = Transport()

    @field_validator("schema_version", mode="before")
    @classmethod
    def _known_schema(cls, value: JsonValue) -> JsonValue:
        if value != SCHEMA_VERSION:
            raise ValueError(f"this version reads schema {SCHEMA_VERSION}, the file says {value!r}")
        return value


QUICK: Mapping[str, Mapping[str, JsonValue]] = {
    "data": {"limit": 10},
    "directions": {
        "n_train": 16, "n_val": 8, "discovery": 12, "discovery_tokens": 24, "mode": "race", "layer_step": 2,
        "random": 1, "shuffled": False, "pooled": False,
    },
    "interventions": {"addition": False, "side_effects": False},
    "generation": {"max_new_tokens": 24},
    "geometry": {"enabled": False},
}  # fmt: skip
"""What --quick sets where nothing else is said. 10 prompts show an effect of about 67 points (`measure.power`), no less.
Half a billion parameters and three languages in five minutes on two cores is the aim: no addition, no side effects, and no
geometry, so that refusal tokens and candidates are those of the source languages alone."""
