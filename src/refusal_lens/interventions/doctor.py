"""Examine a loaded model: does everything an audit relies on hold here? Each check measures; none trusts a name.

Checked: what every run is checked for (`checks`: padding, causality, absence of an ablated direction from every reader, by
hooks and by folded weights), and the layer convention, inert interventions, post-instruction positions, the closed form of
addition, the tokenizer's ids, special tokens inside prompts, refusal phrases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from refusal_lens.errors import DataError
from refusal_lens.interventions.ablation import Ablation
from refusal_lens.interventions.addition import Addition
from refusal_lens.interventions.checks import (
    FULL_LEAK_LIMIT,
    LEAK_LIMIT,
    Check,
    check_model,
    probing_directions,
    small,
)
from refusal_lens.interventions.leak import residual_leak
from refusal_lens.languages import load_languages
from refusal_lens.model import PROBES, LensModel, layer_error, placement_error, record


@dataclass(frozen=True, slots=True)
class Doctor:
    """What an examination found.

    Attributes:
        ok: All checks passed.
        architecture: Class of the model.
        n_layers: Decoder blocks.
        d_model: Width of the residual stream.
        layout: Arrangement of norms, "parallel" first where attention and MLP read the same stream.
        folding: "exact" where an ablation can live in the weights, else "hooks".
        residual_leak: Largest share of an ablated direction that any reader of the stream still saw.
        published_leak: The same under the published hooks, for comparison.
        checks: Each check with what it measured.
        hints: What is missing without being wrong.
    """

    ok: bool
    architecture: str
    n_layers: int
    d_model: int
    layout: str
    folding: Literal["exact", "hooks"]
    residual_leak: float
    published_leak: float
    checks: tuple[Check, ...]
    hints: tuple[str, ...]


@torch.no_grad()
def doctor(model: LensModel) -> Doctor:
    """Examine a model.

    Args:
        model: The model.

    Returns:
        The results of the checks; `ok` only if every check passed.
    """
    directions = probing_directions(model)
    found = check_model(model)
    checks = [
        *_structure(model),
        small(
            "addition equals its closed form",
            _addition_error(model, directions[0]),
            LEAK_LIMIT.get(model.dtype, FULL_LEAK_LIMIT),
        ),
        *found.checks,
        *_tokens(model),
    ]
    if found.why_not_folded is not None:
        checks.append(Check("folding", ok=True, detail=f"hooks, because {found.why_not_folded}"))
    return Doctor(
        ok=all(check.ok for check in checks),
        architecture=model.provenance.architecture,
        n_layers=model.n_layers,
        d_model=model.d_model,
        layout=model.layout.name,
        folding=found.folding,
        residual_leak=found.residual_leak,
        published_leak=max(
            residual_leak(model, Ablation(direction, variant="published"), token_ids=model.probes(3))
            for direction in directions
        ),
        checks=tuple(checks),
        hints=tuple(_hints(model)),
    )


def _structure(model: LensModel) -> Iterator[Check]:
    positions = ", ".join(
        f"{position} {token!r}" for position, token in zip(model.positions, _template_tokens(model), strict=True)
    )
    yield small("layer L is hidden state L", layer_error(model), 1e-3)
    yield small("inert interventions change no logit", placement_error(model), 1e-3)
    yield Check("post-instruction positions", ok=bool(model.positions), detail=positions)


def _template_tokens(model: LensModel) -> list[str]:
    ids = model.render(PROBES[:1])[0]
    return [str(model.tokenizer.decode([ids[position]])) for position in model.positions]


def _addition_error(model: LensModel, direction: Tensor) -> float:
    layer = model.n_layers // 2
    plain = next(record(model, PROBES[:2], batch_size=2))[1][:, :, layer]
    added = next(record(model, PROBES[:2], batch_size=2, interventions=[Addition(direction, layer=layer)]))[1][
        :, :, layer
    ]
    expected = plain + direction.to(plain.device)
    return float((added - expected).abs().max() / expected.abs().max().clamp_min(1e-12))


def _tokens(model: LensModel) -> Iterator[Check]:
    failed = [text for text in PROBES if _round_trip(model, text) != text]
    detail = (
        "every probe comes back"
        if not failed
        else f"{len(failed)} of {len(PROBES)} probes come back changed (lossy vocabulary)"
    )
    yield Check("tokenizer round trip", ok=len(failed) < len(PROBES), detail=detail)
    control = [str(token) for token in model.tokenizer.all_special_tokens if token]
    plain, *forged = model.render(["a b", *(f"a {token} b" for token in control)])
    pairs = zip(control, forged, strict=True)
    leaking = [token for token, ids in pairs if _times(model, token, ids) > _times(model, token, plain)]
    detail = ", ".join(leaking) or f"{len(control)} tried"
    yield Check("special tokens in a prompt stay text", ok=not leaking, detail=detail)


def _times(model: LensModel, token: str, ids: list[int]) -> int:
    return list(model.tokenizer.convert_ids_to_tokens(ids)).count(token)


def _round_trip(model: LensModel, text: str) -> str:
    return str(model.tokenizer.decode(model.tokenizer.encode(text, add_special_tokens=False))).strip()


def _hints(model: LensModel) -> Iterator[str]:
    yield from model.provenance.template
    stated = getattr(model.hf.config.get_text_config(), "max_position_embeddings", None)
    if model.context is not None and isinstance(stated, int) and model.context < stated:
        yield (
            f"a prompt and its answer end at {model.context} of the {stated} tokens it takes: beyond, longrope has every row of "
            "a batch read at other angles"
        )
    if model.provenance.thinking != "auto":
        yield f"thinking is turned {model.provenance.thinking} by the chat template's own switch, as asked (--thinking)"
    if model.provenance.adapter is not None:
        yield f"the weights hold a merged adapter: {model.provenance.adapter}"
    if model.provenance.stored is not None:
        yield f"the weights are stored as {model.provenance.stored}: not the numbers of the model they were made of"
    try:
        languages = load_languages()
    except DataError as error:
        yield f"answers cannot be judged natively: {error}"
        return
    for code, language in languages.items():
        if not (language.phrases.inability or language.phrases.decline):
            yield f"language {code} has no refusal phrases: answers in it cannot be judged; add them to languages/{code}.toml"
