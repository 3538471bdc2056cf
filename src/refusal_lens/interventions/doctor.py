"""Examine a loaded model: does everything an audit relies on hold here? Each check measures; none trusts a name.

Checked: the layer convention, inert interventions, post-instruction positions, padding, closed form of addition, absence
of an ablated direction from every reader, folding, the tokenizer's ids, special tokens inside prompts, refusal phrases.
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
from refusal_lens.interventions.leak import residual_leak
from refusal_lens.languages import load_languages
from refusal_lens.model import PROBES, LensModel, fold_plan, layer_error, next_token_logits, placement_error, record

FULL_PRECISION = frozenset({torch.float32, torch.float64})


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name, whether it passed, and what was measured."""

    name: str
    ok: bool
    detail: str


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
        The findings; `ok` only if every check passed.
    """
    directions = _directions(model)
    plan = fold_plan(model)
    full = model.dtype in FULL_PRECISION
    limit = 1e-5 if full else 2e-2
    leak = max(residual_leak(model, Ablation(direction)) for direction in directions)
    checks = [
        *_structure(model),
        _small("padding changes no logit", _padding_error(model), 1e-4 if full else 5e-2),
        _small("addition equals its closed form", _addition_error(model, directions[0]), limit),
        _small("no reader sees an ablated direction", leak, limit),
        *_tokens(model),
    ]
    if plan.exact:
        folded = max(residual_leak(model, Ablation(direction), fold=True) for direction in directions)
        checks.append(_small("no reader sees it with folded weights", folded, limit))
    else:
        checks.append(Check("folding", ok=True, detail=f"hooks, because {plan.why_not}"))
    return Doctor(
        ok=all(check.ok for check in checks),
        architecture=model.provenance.architecture,
        n_layers=model.n_layers,
        d_model=model.d_model,
        layout=model.layout.name,
        folding="exact" if plan.exact else "hooks",
        residual_leak=leak,
        published_leak=max(residual_leak(model, Ablation(direction, variant="published")) for direction in directions),
        checks=tuple(checks),
        hints=tuple(_hints()),
    )


def _small(name: str, value: float, limit: float) -> Check:
    return Check(name, ok=value <= limit, detail=f"{value:.1e} (limit {limit:.0e}, relative)")


def _directions(model: LensModel) -> list[Tensor]:
    """Two random directions and one the model uses: the stream at the last token, half-way up."""
    generator = torch.Generator().manual_seed(0)
    random = [torch.randn(model.d_model, generator=generator) for _ in range(2)]
    _, activations = next(record(model, PROBES[:1], positions=(-1,)))
    used = activations[0, 0, model.n_layers // 2].cpu()
    scale = float(used.norm()) or 1.0
    return [direction / direction.norm() * scale for direction in random] + [used]


def _structure(model: LensModel) -> Iterator[Check]:
    positions = ", ".join(
        f"{position} {token!r}" for position, token in zip(model.positions, _template_tokens(model), strict=True)
    )
    yield _small("layer L is hidden state L", layer_error(model), 1e-3)
    yield _small("inert interventions change no logit", placement_error(model), 1e-3)
    yield Check("post-instruction positions", ok=bool(model.positions), detail=positions)


def _template_tokens(model: LensModel) -> list[str]:
    ids = model.render(PROBES[:1])[0]
    return [str(model.tokenizer.decode([ids[position]])) for position in model.positions]


def _padding_error(model: LensModel) -> float:
    together = next_token_logits(model, PROBES, batch_size=len(PROBES))
    alone = next_token_logits(model, PROBES, batch_size=1)
    return float((together - alone).abs().max() / alone.abs().max().clamp_min(1e-12))


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


def _hints() -> Iterator[str]:
    try:
        languages = load_languages()
    except DataError as error:
        yield f"answers cannot be judged natively: {error}"
        return
    for code, language in languages.items():
        if not (language.phrases.inability or language.phrases.decline):
            yield f"language {code} has no refusal phrases: answers in it cannot be judged; add them to languages/{code}.toml"
