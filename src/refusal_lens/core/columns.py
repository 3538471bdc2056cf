"""Columns that several tables have alike: their types with what they hold, said once."""

from __future__ import annotations

from typing import Annotated, TypeAlias

Share: TypeAlias = Annotated[float | None, "share in [0, 1]; null where nothing was scored"]
Low: TypeAlias = Annotated[float | None, "lower bound of the 95 % interval"]
High: TypeAlias = Annotated[float | None, "upper bound of the 95 % interval"]
Intervention: TypeAlias = Annotated[
    str, "baseline, or the name of an intervention: ablation, affine, published, addition"
]
Source: TypeAlias = Annotated[str, "language of the direction, a pool, or a null direction; empty for the baseline"]
Language: TypeAlias = Annotated[str, "BCP-47 code of the prompts"]
Harmfulness: TypeAlias = Annotated[str, "class of the prompts: harmful or harmless"]
PromptSet: TypeAlias = Annotated[str | None, "prompt set, e.g. polyrefuse, testbed, xstest"]
Layer: TypeAlias = Annotated[int, "layer: the residual stream entering this block"]
