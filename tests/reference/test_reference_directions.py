"""Agreement with the published code's own numbers: candidates, scores, selection; recorded tables of a 7B model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

from refusal_lens.directions import Candidates, CandidateScore, extract, read_scores, score, scoring, select
from refusal_lens.directions.batched import Answered, BatchedPasses, Pair
from refusal_lens.directions.passes import passes_for
from refusal_lens.model import LensModel, load_model

RECORDED = [
    ("de", "paper", (-1, 15)),
    ("ja", "paper", (-1, 16)),
    ("ko", "paper", (-1, 15)),
    ("yo", "paper", (-1, 19)),
    ("zh", "paper", (-1, 15)),
    ("de", "arditi", (-1, 15)),
    ("ja", "arditi", (-4, 19)),
    ("zh", "arditi", (-4, 19)),
    ("ko", "arditi", None),
    ("yo", "arditi", None),
]


@pytest.mark.parametrize(("language", "rule", "site"), RECORDED)
def test_recorded_tables_select_what_was_published(
    shared: Path, language: str, rule: str, site: tuple[int, int] | None
) -> None:
    scores = read_scores(shared / "data" / "paper" / "selection" / f"qwen2.5-7b-instruct_{language}.json")
    choice = select(scores, n_layers=28, rule=rule)
    assert (None if choice.selected is None else (choice.selected.position, choice.selected.layer)) == site
    assert len(choice.survivors) + len(choice.discarded) == len(scores) == 140
    if site is None:
        assert choice.best_discarded is not None
        assert "steering score < 0" in choice.reason


class Reference:
    def __init__(self, shared: Path, name: str) -> None:
        folder = shared / "reference"
        self.facts = json.loads((folder / name / "scores_en_fp32.json").read_text(encoding="utf-8"))
        self.means = next(iter(load_file(folder / name / "mean_diffs_en_fp32.safetensors").values()))
        self.model: LensModel = load_model(str(folder / f"model_{name}"), dtype="float32", device="cpu", check=False)
        self.prompts: dict[str, list[str]] = {}
        for part, where in self.facts["prompts"].items():
            rows = json.loads((shared / "data" / "Multilingual-Refusal" / where["file"]).read_text(encoding="utf-8"))
            self.prompts[part] = [rows[index][where["key"]] for index in where["indices"]]

    def candidates(self) -> Candidates:
        return extract(self.model, self.prompts["harmful_train"], self.prompts["harmless_train"])

    def scores(self, candidates: Candidates, **how: object) -> list[CandidateScore]:
        val = self.prompts["harmful_val"], self.prompts["harmless_val"]
        return score(self.model, candidates, *val, refusal_tokens=self.facts["refusal_toks"], **how)


@pytest.fixture(scope="module")
def tiny(shared: Path) -> Reference:
    return Reference(shared, "tiny")


def test_candidates_agree(tiny: Reference, found: tuple[Candidates, list[CandidateScore]]) -> None:
    candidates, _ = found
    assert list(candidates.positions) == tiny.facts["positions"]
    assert (candidates.tensor.double() - tiny.means).abs().max() < 1e-5
    assert torch.equal(candidates.tensor[:, 0], torch.zeros_like(candidates.tensor[:, 0]))


def test_every_score_agrees(tiny: Reference, found: tuple[Candidates, list[CandidateScore]]) -> None:
    for mine, theirs in zip(found[1], tiny.facts["scores"], strict=True):
        assert (mine.position, mine.layer) == (theirs["position"], theirs["layer"])
        for name in ("refusal_score", "steering_score", "kl_div_score"):
            assert getattr(mine, name) == pytest.approx(theirs[name], abs=1e-5)


class Remembered(BatchedPasses):
    """Passes of the first sweep: a pair that has run is not run again, whatever mode asks for it."""

    def __init__(self, model: LensModel, token_ids: list[list[int]]) -> None:
        super().__init__(model, token_ids)
        self._passes = passes_for(model, token_ids)
        self._kept: dict[tuple[object, ...], torch.Tensor] = {}
        self._unchanged: torch.Tensor | None = None

    def plain(self) -> torch.Tensor:
        self._unchanged = self._passes.plain() if self._unchanged is None else self._unchanged
        return self._unchanged

    def ablated(self, vectors: torch.Tensor, pairs: Sequence[Pair], consume: Callable[[Answered], None]) -> None:
        self._run("ablated", vectors, None, pairs, consume)

    def added(
        self,
        vectors: torch.Tensor,
        layers: Sequence[int],
        pairs: Sequence[Pair],
        consume: Callable[[Answered], None],
    ) -> None:
        self._run("added", vectors, layers, pairs, consume)

    def _run(
        self,
        how: str,
        vectors: torch.Tensor,
        layers: Sequence[int] | None,
        pairs: Sequence[Pair],
        consume: Callable[[Answered], None],
    ) -> None:
        names = [vector.numpy().tobytes() for vector in vectors]
        new = [pair for pair in pairs if (how, names[pair.candidate], pair.prompt) not in self._kept]

        def keep(answered: Answered) -> None:
            for pair, logits in zip(answered.pairs, answered.logits, strict=True):
                self._kept[how, names[pair.candidate], pair.prompt] = logits.clone()

        if new and layers is None:
            self._passes.ablated(vectors, new, keep)
        elif new and layers is not None:
            self._passes.added(vectors, layers, new, keep)
        for start in range(0, len(pairs), 64):
            some = list(pairs[start : start + 64])
            consume(Answered(some, torch.stack([self._kept[how, names[p.candidate], p.prompt] for p in some])))


@pytest.fixture(scope="module")
def remembered(tiny: Reference) -> Remembered:
    return Remembered(tiny.model, tiny.model.render([*tiny.prompts["harmful_val"], *tiny.prompts["harmless_val"]]))


@pytest.fixture(scope="module")
def found(tiny: Reference, remembered: Remembered) -> tuple[Candidates, list[CandidateScore]]:
    candidates = tiny.candidates()
    with patch.object(scoring, "passes_for", lambda *_, **__: remembered):
        return candidates, tiny.scores(candidates)


@pytest.mark.parametrize("kl", ["0.1", "0.2"])
@pytest.mark.parametrize(("rule", "theirs"), [("paper", "mainlp_rule"), ("arditi", "andyrdt_rule")])
def test_the_same_candidate_is_selected_in_every_mode(
    tiny: Reference,
    found: tuple[Candidates, list[CandidateScore]],
    remembered: Remembered,
    rule: str,
    theirs: str,
    kl: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One rule and limit on passes of their own, the others on those of the exact sweep."""
    if (rule, kl) != ("paper", "0.2"):
        monkeypatch.setattr(scoring, "passes_for", lambda *_, **__: remembered)
        monkeypatch.setattr(scoring, "BatchedPasses", lambda *_, **__: remembered)
    expected = tiny.facts["selection"][kl][theirs]
    site = None if expected["selected"] is None else (expected["selected"]["position"], expected["selected"]["layer"])
    limits = {"rule": rule, "kl_threshold": float(kl)}
    whole = select(found[1], n_layers=6, **limits)
    order = [[item.position, item.layer] for item in whole.survivors]
    assert order == [item for item in expected["order"] if item[1] != 0]
    for how in ({"prune": True}, {"mode": "race"}):
        other = select(tiny.scores(found[0], **limits, **how), n_layers=6, **limits)
        for choice in (whole, other):
            assert (None if choice.selected is None else (choice.selected.position, choice.selected.layer)) == site
