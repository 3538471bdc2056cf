"""Repeated steps write what the plain loop writes, on every architecture; recorded as on a GPU, on a tape that a CPU can play.

The tape stands in for a CUDA graph: it keeps operations with the very tensors and numbers of one step and runs them again.
Whatever a step took from Python (a length, a position) would be repeated unchanged, as a graph repeats it, and what a graph
cannot hold (a number read back from the device) is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tiny_models
from refusal_lens.interventions import Ablation, Addition
from refusal_lens.model import Engine, Generated, Intervention, LensModel, decoding, generate, load_model

PLAIN = Engine("hf", plain=True)
PROMPTS = [
    "Tell me a story about cats and dogs, please, and make it long, with bread in it",
    "What?",
    "写一首诗。",
    "How do I bake bread?",
    "Zähle bis zehn",
]
LIMIT = 18
"""With its prompt, every answer is longer than the sliding windows of these models."""
EVERY = pytest.mark.parametrize("name", tiny_models.ARCHITECTURES)
READ_BACK = {"aten._local_scalar_dense.default", "aten.nonzero.default", "aten.is_nonzero.default"}


class Tape(TorchDispatchMode):
    """Operations of one step, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.played: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func) in READ_BACK:
            raise RuntimeError(f"a graph cannot hold {func}")
        found = func(*args, **(kwargs or {}))
        self.played.append((func, args, kwargs or {}, found))
        return found

    def play(self) -> None:
        for func, args, kwargs, found in self.played:
            again = func(*args, **kwargs)
            for old, new in zip(_tensors(found), _tensors(again), strict=True):
                if old.data_ptr() != new.data_ptr():  # neither a view nor in place: the result has a place of its own
                    old.copy_(new)


def _tensors(found: Any) -> list[torch.Tensor]:
    parts = found if isinstance(found, (tuple, list)) else [found]
    return [part for part in parts if isinstance(part, torch.Tensor)]


def taped(step: Callable[[], torch.Tensor]) -> decoding.Repeat:
    """As `record_step`: a recorded step does not run while it is recorded."""
    counters = [tensor for tensor in _kept(step) if tensor.dtype == torch.long]
    before = [tensor.clone() for tensor in counters]
    with Tape() as tape:
        logits = step()
    for tensor, old in zip(counters, before, strict=True):
        tensor.copy_(old)

    def repeat() -> torch.Tensor:
        tape.play()
        return logits

    return repeat


def _kept(step: Callable[[], torch.Tensor]) -> list[torch.Tensor]:
    decoder = step.__self__
    return [value for value in vars(decoder).values() if isinstance(value, torch.Tensor)]


@cache
def model(name: str) -> LensModel:
    loaded = load_model(str(tiny_models.build(name, Path(mkdtemp()) / name, seed=5)), check=False)
    said = generate(loaded, PROMPTS, max_new_tokens=LIMIT, engine=PLAIN)
    loaded.end_ids = tuple({answer.token_ids[3 + 5 * row] for row, answer in enumerate(said[:3])})
    return loaded


def _vectors(loaded: LensModel, rows: int = len(PROMPTS)) -> torch.Tensor:
    return torch.randn(rows, loaded.d_model, generator=torch.Generator().manual_seed(3)) * 2


def kinds(loaded: LensModel) -> dict[str, tuple[list[Intervention], str]]:
    """Interventions by name, and whether they may be folded."""
    rows = _vectors(loaded)
    return {
        "plain": ([], "auto"),
        "folded": ([Ablation(rows[0])], "auto"),
        "hooks": ([Ablation(rows[0])], "never"),
        "direction per row": ([Ablation(rows)], "auto"),
        "addition per row and ablation": ([Addition(rows, layer=1), Ablation(rows[2])], "auto"),
    }


def written(loaded: LensModel, engine: Engine, kind: str, **options: Any) -> list[Generated]:
    interventions, fold = kinds(loaded)[kind]
    return generate(
        loaded, PROMPTS, max_new_tokens=LIMIT, interventions=interventions, fold=fold, engine=engine, **options
    )


@cache
def expected(name: str, kind: str) -> list[Generated]:
    return written(model(name), PLAIN, kind)


@EVERY
def test_repeated_steps_write_what_the_plain_loop_writes(name: str) -> None:
    loaded = model(name)
    for kind in kinds(loaded):
        assert written(loaded, Engine(), kind) == expected(name, kind), kind


@EVERY
def test_what_a_graph_would_repeat_is_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = model(name)
    if decoding.way_of(loaded) == "plain":
        pytest.skip("this model keeps more than keys and values")
    monkeypatch.setattr(decoding, "BURST", {})
    monkeypatch.setattr(decoding, "COLUMNS", {"cpu": 8})
    played: list[int] = []

    def recorded(step: Callable[[], torch.Tensor]) -> decoding.Repeat:
        repeat = taped(step)
        return lambda: (played.append(1), repeat())[1]

    monkeypatch.setattr(decoding, "decoder_of", _recording(recorded))
    for kind in ("plain", "direction per row"):
        assert written(loaded, Engine(), kind, batch_size=3) == expected(name, kind), kind
    assert played, "steps were repeated from their record"


def _recording(record: Callable[[Callable[[], torch.Tensor]], decoding.Repeat]) -> Callable[..., decoding.Decoder]:
    def made(loaded: LensModel, *, share: bool, least: int = 1) -> decoding.Decoder:
        return decoding.Decoder(loaded, share, record, least)

    return made


def test_the_tape_repeats_numbers_as_a_graph_does() -> None:
    column, row = 0, torch.zeros(4)
    with Tape() as tape:
        row[column] += 1
    column = 2
    tape.play()
    assert row.tolist() == [2, 0, 0, 0], "the number of the time of recording"
    with pytest.raises(RuntimeError, match="cannot hold"), Tape():
        row[0].item()


def test_early_stops_and_bursts_agree_with_the_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = model("qwen3")

    def decided(row: int, text: str) -> bool:
        return row % 2 == 0 and len(text) > 3

    wanted = generate(loaded, PROMPTS, max_new_tokens=40, stop_when=decided, engine=PLAIN)
    for burst in ({"cpu": 1}, {"cpu": 5}, {}):
        monkeypatch.setattr(decoding, "BURST", burst)
        assert generate(loaded, PROMPTS, max_new_tokens=40, stop_when=decided) == wanted, burst


def test_most_architectures_repeat_their_steps() -> None:
    ways = {name: decoding.way_of(model(name)) for name in tiny_models.ARCHITECTURES}
    assert sum(way == "shared" for way in ways.values()) >= 12, ways
    lengths = {name: {len(item.token_ids) for item in expected(name, "plain")} for name in tiny_models.ARCHITECTURES}
    assert sum(len(each) > 1 for each in lengths.values()) >= 12, (
        f"rows of these tests end at different times: {lengths}"
    )
