"""The one configuration tree of an audit: frozen, validated, saved whole with every run.

Built from the command line or from a TOML file (`refusal-lens audit --config FILE`). Unknown keys are refused with the
nearest known one. What only decides how work travels (executor, workers, batch size, device) lives in `Transport` and
never enters a step's key; everything else may.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
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
from refusal_lens.errors import UserError
from refusal_lens.types import JsonValue, Rule

SCHEMA_VERSION = 1

Positive: TypeAlias = Annotated[int, Strict(), Field(ge=1)]
NonNegative: TypeAlias = Annotated[int, Strict(), Field(ge=0)]
Seed: TypeAlias = Annotated[int, Strict(), Field(ge=0, lt=2**32)]
"""Strict: `true` and `"3"` are no numbers. A seed is what every generator takes."""


class _Frozen(BaseModel):
    # NaN and infinity can stand in TOML but not in JSON, of which keys and manifests are made.
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class ModelConfig(_Frozen):
    """Which model, and how its weights and template are read."""

    spec: str = Field(min_length=1, description="testbed:NAME, a folder, or a hub id")
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    chat_template: str | None = None
    thinking: Literal["auto", "on", "off"] = Field(
        default="auto", description="turn thinking on or off by the chat template's own switch"
    )
    trust_remote_code: bool = False
    accept_inexact: bool = Field(default=False, description="go on with a model that fails its checks, and mark it")


class DataConfig(_Frozen):
    """Which prompts: a PolyRefuse folder (`root`), a file of one's own (`prompts`), or the testbed's own."""

    root: str | None = None
    prompts: str | None = Field(default=None, description="CSV, TSV, Parquet, JSON or JSON Lines file, a row a prompt")
    columns: dict[str, str] = Field(default={}, description="columns of that file with other names, e.g. text = goal")
    languages: tuple[str, ...] = Field(min_length=1)
    limit: Positive | None = Field(default=None, description="test prompts per language and class")
    prompt_sets: tuple[str, ...] = ()


class DirectionConfig(_Frozen):
    """How directions are extracted and selected (defaults: the paper's)."""

    sources: tuple[str, ...] = Field(default=("en",), min_length=1)
    n_train: Positive = 128
    n_val: Positive = 32
    rule: Rule = "paper"
    kl_threshold: Annotated[float, Field(gt=0)] | None = None
    mode: Literal["exact", "race"] = "exact"
    full_sweep: bool = Field(default=False, description="also score candidates that the rule discards anyway")
    filter: bool = True
    discovery: Positive = Field(default=32, description="train prompts per class answered to find refusal tokens")
    random: NonNegative = 3
    shuffled: bool = True
    pooled: bool = True


def _options_of(name: str, common: Mapping[str, JsonValue], own: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Every option of an intervention: its own setting, else one made for all, else the default; or a ValueError."""
    if name not in DECLARED:
        raise ValueError(f"no intervention is named {name!r}{_hint(name, DECLARED)}")
    options = DECLARED[name].options
    known = options.__dataclass_fields__
    for option in own:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}{_hint(option, known)}")
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


def _hint(wrong: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known) or 'none'}"


class InterventionConfig(_Frozen):
    """What is done with a direction."""

    ablation: bool = True
    addition: bool = True
    affine: bool = Field(default=False, description="ablate to the harmless mean instead of zero")
    variant: Literal["exact", "published"] = "exact"
    coefficient: float = 1.0
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

    max_new_tokens: Positive = 512
    shard_size: Positive = 256
    stop_when_decided: bool = False


class GeometryConfig(_Frozen):
    """What the geometry step measures and how finely."""

    enabled: bool = True
    prompts_per_class: Positive = 64
    bootstrap: Positive = 200
    permutations: Positive = 100
    base: str | None = None


class Transport(_Frozen):
    """How work travels; never part of a key."""

    executor: Literal["local", "ray"] = "local"
    workers: Positive = 1
    address: str | None = None
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0.0
    store: str | None = None
    batch_size: Literal["auto"] | Positive = "auto"
    device: str = "auto"
    engine: Literal["auto", "hf"] = "auto"
    plain: bool = False


class AuditConfig(_Frozen):
    """Everything an audit is asked to do."""

    schema_version: Literal[1] = SCHEMA_VERSION
    model: ModelConfig
    data: DataConfig
    directions: DirectionConfig = DirectionConfig()
    interventions: InterventionConfig = InterventionConfig()
    generation: GenerationConfig = GenerationConfig()
    geometry: GeometryConfig = GeometryConfig()
    judge: str = "native"
    translate: str = Field(
        default="", description="translate answers to English before judging: hf:MODEL or endpoint:URL#MODEL"
    )
    thinking_format: str = Field(
        default="auto", description="how thoughts stand in answers: auto, none, think, harmony or a regular expression"
    )
    seed: Seed = 0
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


def parse_config(data: JsonValue, *, where: str) -> AuditConfig:
    """Validate a configuration tree.

    Args:
        data: Parsed TOML or JSON.
        where: Name of its origin, for messages.

    Returns:
        The frozen configuration.

    Raises:
        UserError: Naming every wrong field; an unknown key comes with the nearest known one.
    """
    try:
        return AuditConfig.model_validate(data)
    except ValidationError as error:
        raise UserError(
            f"{where}: " + "; ".join(_explain(item["loc"], item["type"], item["msg"]) for item in error.errors())
        ) from None


def read_settings(path: Path) -> dict[str, JsonValue]:
    """Read the settings of a TOML file as they stand there, to be completed before `parse_config` judges them.

    Args:
        path: The file.

    Returns:
        The settings; every known section is a table.

    Raises:
        UserError: When the file cannot be read, is not TOML, or a section is no table.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, not TOML, a number of 5,000 digits
        raise UserError(f"{path}: not a readable TOML configuration ({error})") from None
    for name in data:
        if _fields_at((name,)) and not isinstance(data[name], dict):
            raise UserError(f"{path}: {name}: should be a table, [{name}] with a setting a line")
    return data


def _explain(location: tuple[int | str, ...], kind: str, message: str) -> str:
    name = ".".join(str(part) for part in location)
    message = message.removeprefix("Value error, ")
    if kind != "extra_forbidden":
        return f"{name}: {message}"
    known = _fields_at(location[:-1])
    return f"unknown key {name!r}{_hint(str(location[-1]), known)}"


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    node: type[BaseModel] = AuditConfig
    for part in location:
        field = node.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        node = field.annotation
    return sorted(node.model_fields)
