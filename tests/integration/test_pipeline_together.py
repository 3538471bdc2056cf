"""Shards of several languages answered in one call of `generate`: the answers, rules and proofs of shards answered one by one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_models
from refusal_lens.config import AuditConfig
from refusal_lens.core.names import BASELINE
from refusal_lens.directions import Direction
from refusal_lens.engines import VllmEngine
from refusal_lens.judging import Answer
from refusal_lens.model import ENGINE, Engine, Generated, Intervention, LensModel, generate, load_model
from refusal_lens.model.answers import Watch
from refusal_lens.pipeline import audit, prepare, run_audit
from refusal_lens.pipeline.sharing import groups_of
from refusal_lens.pipeline.steps import answering
from refusal_lens.pipeline.steps.answering import Asked, Shard, answer, in_one_batch
from refusal_lens.rundir import RunDir
from refusal_lens.types import Prompt, Verdict

TEXTS = {
    "en": ["What?", "Tell me a story about cats and dogs, please, and make it long", "How do I bake bread?"],
    "de": ["Wie backe ich Brot?", "Erzähle mir"],
    "yo": ["Ẹ jọ̀ọ́, sọ ìtàn kan fún mi", "写一首诗。", "Tell me", "What is seven plus five?"],
}
LIMIT = 18


@pytest.fixture(scope="module", params=["qwen3", "gemma3", "gpt2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LensModel:
    return load_model(str(tiny_models.build(request.param, tmp_path_factory.mktemp("models") / request.param, seed=3)))


def directions(*names: str) -> dict[str, Direction]:
    made: dict[str, Direction] = {}
    for index, name in enumerate(names):
        vector = torch.randn(tiny_models.WIDTH, generator=torch.Generator().manual_seed(index))
        made[name] = Direction(vector, -1, 1 + index % 2, name, harmless_projections=(0.2, -0.1 * index, 0.3))
    return made


def shards(sources: dict[str, Direction | None] | dict[str, Direction]) -> list[Shard]:
    return [
        Shard(
            code, [Prompt(f"{code}{n}", code, "harmful", "test", text) for n, text in enumerate(texts)], dict(sources)
        )
        for code, texts in TEXTS.items()
    ]


class Sure:
    """Certain of a refusal in every other prompt, from the first look on."""

    name = "sure"

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        return [
            Verdict(
                "refused" if len(one.prompt or "") % 2 else "complied", 1.0, False, "", "sure", language=one.language
            )
            for one in answers
        ]


CASES: dict[str, tuple[str, dict[str, Direction | None] | dict[str, Direction]]] = {
    "untouched": (BASELINE, {"": None}),
    "one direction, in the weights": ("ablation", directions("en")),
    "several directions": ("ablation", directions("en", "de", "random-0")),
    "affine, each to its own mean": ("affine", directions("en", "de")),
    "published hooks": ("published", directions("en")),
    "added at two layers": ("addition", directions("en", "de")),
}


@pytest.mark.parametrize("case", CASES)
def test_answers_together_are_the_answers_one_by_one(model: LensModel, case: str) -> None:
    (intervention, sources), stopping = CASES[case], case in {"untouched", "several directions"}
    asked, every = Asked(intervention, {}, LIMIT), shards(sources)
    stops = [[shard.stopping(Sure(), model) for shard in every] if stopping else [] for _ in range(2)]
    together, proof = answer(model, every, asked, stops=stops[0], batch_size="auto", engine=ENGINE)
    first = 0
    for place, shard in enumerate(every):
        rule = stops[1][place : place + 1]
        alone, own = answer(model, [shard], asked, stops=rule, batch_size="auto", engine=Engine(plain=place == 0))
        rows = range(first, first := first + len(shard.asked))
        assert together[rows.start : rows.stop] == alone
        assert [answered.decided for answered in alone].count(True) <= len(alone) * stopping
        assert [row - rows.start for row in proof.rows if row in rows] == own.rows
        for row in own.rows:
            mine, theirs = proof.shares([rows.start + row]), own.shares([row])
            assert (mine.before is None) == (intervention == BASELINE) == (theirs.before is None)
            assert mine.before is None or mine.before == pytest.approx(theirs.before, abs=2e-6, rel=0.06)
            assert mine.after is None or mine.after == pytest.approx(theirs.after, abs=2e-6, rel=0.06)
    assert [stop.early for stop in stops[0]] == [stop.early for stop in stops[1]]


class OneDirectionAtATime(VllmEngine):
    """Stands in for vLLM: it takes no direction per row, and shows the final norm alone."""

    def __init__(self, model: LensModel) -> None:
        self.model = model
        self.calls: list[int] = []

    def takes(self, interventions: Sequence[Intervention]) -> bool:
        assert all(getattr(item, "direction", torch.zeros(1)).ndim == 1 for item in interventions)
        return True

    def generate(self, texts: Sequence[str], *, progress: object, **keywords: Any) -> list[Generated]:
        self.calls.append(len(texts))
        return generate(self.model, texts, **keywords)

    def show(self, texts: Sequence[str], interventions: Sequence[Intervention], watch: Watch) -> None:
        def last(rows: Sequence[int], layer: int, read: torch.Tensor) -> None:
            if layer == self.model.n_layers:
                watch(rows, layer, read)

        generate(self.model, texts, max_new_tokens=1, interventions=interventions, watch=last)


@pytest.mark.parametrize("case", ["untouched", "several directions"])
def test_an_engine_of_one_direction_at_a_time_gets_the_rows_of_all_shards_at_once(
    model: LensModel, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (intervention, sources), every = CASES[case], shards(CASES[case][1])
    asked = Asked(intervention, {}, LIMIT)
    stops = [[shard.stopping(Sure(), model) for shard in every] for _ in range(2)]
    wanted, _ = answer(model, every, asked, stops=stops[0], batch_size="auto", engine=ENGINE)
    server = OneDirectionAtATime(model)
    monkeypatch.setattr(answering, "serving", lambda *_: server)
    assert in_one_batch(model, every, LIMIT, ENGINE, 1) == every, "it makes its own batches"
    found, proof = answer(model, every, asked, stops=stops[1], batch_size="auto", engine=ENGINE)
    assert found == wanted
    assert server.calls == [9] * len(sources)
    if intervention != BASELINE:
        shares = proof.shares(proof.rows)
        assert len(proof.rows) == 2 * len(every) * len(sources)
        assert shares.before is not None and shares.after is not None
        assert shares.before > 0.01
        assert shares.after < 1e-5


def test_a_group_holds_no_more_than_a_batch(model: LensModel) -> None:
    every = shards(directions("en"))  # 3, 2 and 4 rows
    assert in_one_batch(model, every, LIMIT, ENGINE, "auto") == every
    assert in_one_batch(model, every, LIMIT, ENGINE, 5) == every[:2]
    assert in_one_batch(model, every, LIMIT, ENGINE, 1) == every[:1]


SMALL: dict[str, dict[str, object]] = {
    "model": {"spec": "testbed:universal"},
    "data": {"languages": ("de", "en", "yo"), "limit": 2},
    "directions": {"n_train": 8, "n_val": 4, "random": 1, "discovery": 8},
    "generation": {"max_new_tokens": 4},
    "geometry": {"enabled": False},
}


def run_of(out: Path) -> RunDir:
    run_audit(prepare(AuditConfig.model_validate(SMALL)), out)
    return RunDir.open(out)


def results(run: RunDir) -> dict[str, tuple[str, dict[str, str]]]:
    found = {path.stem: run.record(f"{path.parent.name}/{path.stem}") for path in (run.root / "tasks").glob("*/*.json")}
    return {name: (record.key, record.outputs) for name, record in found.items() if record is not None}


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return run_of(tmp_path_factory.mktemp("runs") / "grouped")


def without_answers(run: RunDir, to: Path, *, keep: int = 0) -> Path:
    """A copy in which all answers but those of a few tasks are still to be written."""
    out = Path(shutil.copytree(run.root, to))
    for name in sorted(path.stem for path in (out / "tasks" / "completions").glob("*.json"))[keep:]:
        for step in ("completions", "verdicts"):
            (out / "tasks" / step / f"{name}.json").unlink()
            shutil.rmtree(out / "data" / step / name)
    return out


def test_an_audit_in_groups_leaves_the_bytes_of_one_without_in_fewer_passes(
    grouped: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(AuditConfig.model_validate(SMALL))
    groups = groups_of(prepared.config, prepared.dataset, prepared.tasks)
    alone = sum(task.step == "completions" for task in prepared.tasks)
    assert (alone, len(groups)) == (18, 5), "untouched; ablated, and added, one direction and beside a random one"
    monkeypatch.setattr(audit, "groups_of", lambda *_: [])
    assert results(run_of(without_answers(grouped, tmp_path / "alone"))) == results(grouped)


def test_an_audit_killed_while_a_group_is_sealed_goes_on_with_the_rest(
    grouped: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = without_answers(grouped, tmp_path / "run", keep=2)
    calls: list[int] = []
    real: Callable[..., object] = generate

    def counting(model: LensModel, texts: Sequence[str], **keywords: object) -> object:
        calls.append(len(texts))
        return real(model, texts, **keywords)

    monkeypatch.setattr(answering, "generate", counting)
    assert results(run_of(out)) == results(grouped)
    assert len(calls) == 5, "a group with two tasks less is one call still"
