"""`python -m bench.gpu` and `bench.engines` on a CPU: every part runs at a tiny shape and writes what it promises."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from refusal_lens.model import decoding
from refusal_lens.model.batches import forget_held

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from bench.models import Material  # noqa: E402


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bench") / "new"
    command = [sys.executable, "-m", "bench.gpu", "--out", str(out), "--shape", "tiny"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return out


def test_the_record_has_the_promised_keys_and_sane_numbers(written: Path) -> None:
    found = json.loads((written / "gpu.json").read_text(encoding="utf-8"))
    assert set(found) == {"device", "generation", "sweep", "extraction", "projection"}
    assert set(found["sweep"]) == {"exact", "pruned", "race", "published"}
    assert all(seconds > 0 for part in ("sweep", "extraction") for seconds in found[part].values())
    keys = {"engine", "mode", "batch", "tokens_per_s", "step_ms", "floor_ms"}
    assert all(set(row) == keys and row["tokens_per_s"] > 0 and row["floor_ms"] > 0 for row in found["generation"])
    modes = {(row["engine"], row["mode"]) for row in found["generation"]}
    assert modes == {
        *(("hf", mode) for mode in ("plain", "folded", "hooks", "mixed directions")),
        ("hf --plain", "plain"),
        ("transformers generate", "plain"),
    }
    for row in found["generation"]:
        steps = row["batch"] / row["tokens_per_s"] * 1e3
        assert row["step_ms"] < 3 * steps, "a step takes no longer than a token of the whole run, the noise aside"
    row, matrix = found["projection"]["hf"]["figure1_row"], found["projection"]["hf"]["matrix_14x15"]
    assert matrix > row > found["projection"]["floor"]["figure1_row"] > 0


def test_the_table_shows_every_row(written: Path) -> None:
    rows = json.loads((written / "gpu.json").read_text(encoding="utf-8"))["generation"]
    text = (written / "gpu.md").read_text(encoding="utf-8")
    assert all(f"| {row['engine']} | {row['mode']} | {row['batch']} |" in text for row in rows)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The bench in this process, with little to measure. What its steps on a CPU keep alive is given back."""
    found = importlib.import_module("bench.gpu")
    monkeypatch.setattr(found, "material", lambda: Material(*[[f"say {n}" for n in range(4)]] * 4, "here"))
    yield found
    forget_held()


def test_no_timed_run_records_a_step(bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps as a GPU repeats them: what is recorded while the clock runs would be a quarter of 256 tokens' time."""
    recorded: list[str] = []
    timed: list[list[str]] = []

    def record(step: Callable[[], torch.Tensor]) -> decoding.Repeat:
        recorded.append("")
        return step

    def seconds(self: object, work: Callable[[], object]) -> float:
        before = len(recorded)
        work()
        timed.append(recorded[before:])
        return 1.0 + len(timed)

    monkeypatch.setattr(decoding, "recorder_for", lambda _: record)
    monkeypatch.setattr(decoding, "BURST", {})
    monkeypatch.setattr(decoding, "COLUMNS", {"cpu": 4})
    monkeypatch.setattr(bench.Bench, "seconds", seconds)
    for part in ("extraction", "sweep"):
        monkeypatch.setattr(bench, part, lambda *_: None)
    found = bench.run(tmp_path, "tiny", torch.device("cpu"))
    assert len(found["generation"]) == 10 and len(timed) == 20
    assert found["device"]["way"] == "shared" and found["device"]["recorded_steps"] > 0
    assert recorded, "steps were recorded before"
    assert timed == [[]] * 20


def test_what_fails_or_comes_too_late_is_named_and_the_rest_is_measured(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **options: object) -> None:
        if "prune" in options:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")

    monkeypatch.setattr(bench, "score", broken)
    monkeypatch.setitem(bench.BATCHES, "tiny", (2,))
    found = bench.run(tmp_path / "one", "tiny", torch.device("cpu"))
    assert found["failed"] == {"pruned sweep": "RuntimeError: CUDA error: an illegal memory access was encountered"}
    assert set(found["sweep"]) == {"exact", "race", "published"}
    assert json.loads((tmp_path / "one" / "gpu.json").read_text(encoding="utf-8")) == found
    late = bench.run(tmp_path / "two", "tiny", torch.device("cpu"), seconds=0.0)
    assert "generation" not in late and set(late["failed"].values()) == {"left out: the time is over"}
    assert "left out" in (tmp_path / "two" / "gpu.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("out", ["file", "file/inside"])
def test_a_folder_that_cannot_be_is_said_before_a_model_is_made(
    bench: ModuleType, out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(bench, "build", None)
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path / out), "--shape", "tiny"])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 2 and "no folder can be made there" in capsys.readouterr().err


def test_a_projection_adds_up() -> None:
    from bench.gpu import projection

    def row(mode: str, rate: float) -> dict[str, object]:
        return {"engine": "hf", "mode": mode, "batch": 512, "tokens_per_s": rate, "step_ms": 25.6, "floor_ms": 8.192}

    found = projection([row("plain", 20000), row("folded", 20000), row("mixed directions", 17000)])
    one = 14 * 572 * 512 / 60  # tokens of one pass over all languages, a minute
    assert found["hf"] == {
        "figure1_row": round(2 * one / 20000, 2),
        "matrix_14x15": round(one / 20000 + 14 * one / 17000, 2),
    }
    assert found["floor"] == {"figure1_row": round(2 * one / 62500, 2), "matrix_14x15": round(15 * one / 62500, 2)}


def test_two_engines_are_timed_on_the_same_prompts_and_their_differing_answers_counted() -> None:
    from bench.engines import measured

    from refusal_lens.model import Generated, generate, load_model

    model = load_model("testbed:universal", check=False)

    def same(*what: Any, **options: Any) -> list[Generated]:
        return generate(model, *what, **options)

    def other(*what: Any, **options: Any) -> list[Generated]:
        first, *rest = generate(model, *what, **options)
        return [replace(first, token_ids=first.token_ids[:-1]), *rest]

    prompts = ["Write a poem.", "How do I bake bread?", "What is seven plus five?"]
    found = measured(model, {"hf": same, "other": other}, prompts, tokens=4, rounds=1)
    assert found["same_answers"] == {"plain": 2, "ablated": 2}
    assert [(row["engine"], row["mode"], row["prompts"]) for row in found["generation"]] == [
        (engine, mode, 3) for mode in ("plain", "ablated") for engine in ("hf", "other")
    ]
    for mode in ("plain", "ablated"):
        one, two = (row for row in found["generation"] if row["mode"] == mode)
        assert one["tokens"] == two["tokens"] + 1
    for row in found["generation"]:
        assert row["tokens_per_cpu_s"] == pytest.approx(row["tokens"] / row["cpu_s"][0], rel=1e-3, abs=0.06)
