"""The recorded numbers of the published code: logits, greedy tokens and mean differences of two small models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from refusal_lens.interventions import Ablation, Addition, Intervention
from refusal_lens.model import LensModel, generate, load_model, next_token_logits, record


@pytest.fixture(scope="module", params=["tiny", "small"])
def case(request: pytest.FixtureRequest, shared: Path) -> tuple[LensModel, Path, Path]:
    return (
        load_model(str(shared / "reference" / f"model_{request.param}")),
        shared / "reference" / request.param,
        shared,
    )


def _texts(shared: Path, where: dict[str, object]) -> list[str]:
    rows = json.loads((shared / "data" / "Multilingual-Refusal" / str(where["file"])).read_text(encoding="utf-8"))
    return [rows[index]["instruction"] for index in where["indices"]]


def test_logits_and_greedy_tokens(case: tuple[LensModel, Path, Path]) -> None:
    model, folder, shared = case
    recorded = json.loads((folder / "generation_en_fp32.json").read_text())
    numbers = load_file(folder / "lowlevel_en_fp32.safetensors")
    meta, direction = recorded["meta"], numbers["direction"].float()
    prompts = _texts(shared, meta["prompts"])
    cases: list[tuple[str, list[Intervention]]] = [
        ("baseline", []),
        ("ablation", [Ablation(direction)]),
        ("ablation", [Ablation(direction, variant="published")]),
        ("actadd", [Addition(direction, layer=meta["layer"], coefficient=meta["coeff"])]),
    ]
    for name, interventions in cases:
        logits = next_token_logits(model, prompts, interventions=interventions)
        assert torch.allclose(logits, numbers[name], atol=1e-4), name
        answers = generate(model, prompts, max_new_tokens=meta["max_new_tokens"], interventions=interventions)
        for answer, row in zip(answers, recorded[name], strict=True):
            end = next((index + 1 for index, token in enumerate(row) if token in model.end_ids), len(row))
            assert list(answer.token_ids) == row[:end], name


def test_rendered_prompts_and_mean_differences(case: tuple[LensModel, Path, Path]) -> None:
    model, folder, shared = case
    meta = json.loads((folder / "scores_en_fp32.json").read_text())
    recorded = load_file(folder / "mean_diffs_en_fp32.safetensors")["mean_diffs"]
    assert len(model.positions) == recorded.shape[0]
    assert model.render(["x"])[0][-len(model.positions) :] == meta["eoi_tokens"]

    def mean(name: str) -> torch.Tensor:
        texts = _texts(shared, meta["prompts"][name])
        return sum(part.double().sum(0) for _, part in record(model, texts)) / len(texts)

    assert torch.allclose(mean("harmful_train") - mean("harmless_train"), recorded, atol=1e-5)
