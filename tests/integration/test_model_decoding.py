"""Repeated steps write what the plain loop writes, on every architecture; recorded as on a GPU, on a tape that a CPU can play.

The tape stands in for a CUDA graph: it keeps operations with the very tensors and numbers of one step and runs them again.
Whatever a step took from Python (a length, a position) would be repeated unchanged, as a graph repeats it, and what a graph
cannot hold (a number read back from the device) is refused.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tiny_models
from refusal_lens.interventions import Ablation, Addition
from refusal_lens.model import (
    Engine,
    Generated,
    Intervention,
    LensModel,
    decoding,
    fold_plan,
    folding,
    generate,
    load_model,
    ways,
)
from refusal_lens.model.batches import HOLDERS, forget_held
from refusal_lens.model.edit import Edit, Site
from refusal_lens.model.held import weights_and_hooks

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
    if ways.way_of(loaded) == "plain":
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
    def made(loaded: LensModel, *, share: bool) -> decoding.Decoder:
        return decoding.Decoder(loaded, share, record, least=1)

    return made


class Shifted:
    """An intervention that the room does not know: its edit is more than tensors."""

    holds = False

    def __init__(self, by: float) -> None:
        self._by = by

    def at(self, site: Site, layer: int, /) -> Edit | None:
        return (lambda x: x + self._by) if (site, layer) == ("block_input", 1) else None

    def after(self, earlier: object, /) -> Intervention:
        return self

    def rows(self, indices: object, /) -> Intervention:
        return self

    def fold_direction(self) -> None:
        return None


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[LensModel], list[int]]]:
    """Has models keep their decoder as on a GPU, on tapes; gives a list that grows with every recording."""
    monkeypatch.setattr(decoding, "BURST", {})
    recorded: list[int] = []

    def record(step: Callable[[], torch.Tensor]) -> decoding.Repeat:
        recorded.append(1)
        return taped(step)

    monkeypatch.setattr(decoding, "recorder_for", lambda _: record)

    def of(loaded: LensModel) -> list[int]:
        used.append(loaded)
        return recorded

    used: list[LensModel] = []
    yield of
    for loaded in used:
        loaded.kept.clear()
    forget_held()


@pytest.mark.parametrize("name", ["qwen3", "llama", "gemma2", "mixtral"])
def test_what_is_recorded_survives_folds_and_other_directions(
    name: str, kept: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One decoder through plain, folded and hooked answers, directions alone and per row: recorded once for each kind."""
    loaded = model(name)
    monkeypatch.setattr(loaded, "end_ids", ())
    recorded = kept(loaded)
    counts: list[int] = []
    for seed in (3, 11):
        rows = torch.randn(len(PROMPTS), loaded.d_model, generator=torch.Generator().manual_seed(seed)) * 2
        for interventions, fold in (
            ([], "auto"),
            ([Ablation(rows[0])], "auto"),
            ([Ablation(rows[1])], "never"),
            ([Ablation(rows)], "auto"),
            ([Addition(rows, layer=1), Ablation(rows[2])], "auto"),
        ):
            said = [
                generate(loaded, PROMPTS, max_new_tokens=6, interventions=interventions, fold=fold, engine=engine)
                for engine in (PLAIN, Engine())
            ]
            assert said[0] == said[1]
        counts.append(len(recorded))
    assert counts[0] > 0 and counts[1] == counts[0], (
        "nothing was recorded anew: weights and buffers are where they were"
    )


@pytest.mark.parametrize("name", ["qwen3", "llama", "gpt2"])
def test_everything_that_a_record_reads_stays_where_it_is(name: str) -> None:
    loaded = model(name)
    plan = fold_plan(loaded)
    assert plan.exact
    direction = torch.nn.functional.normalize(_vectors(loaded)[0], dim=0)
    before = weights_and_hooks(loaded.hf)
    numbers = {name: weight.clone() for name, weight in loaded.hf.state_dict().items()}
    with folding(plan, direction):
        inside = weights_and_hooks(loaded.hf)
        now = loaded.hf.state_dict()
        changed = [name for name, old in numbers.items() if not torch.equal(now[name], old)]
        generate(loaded, PROMPTS[:2], max_new_tokens=2, engine=PLAIN)
    assert len(changed) >= len([item for item in plan.written if item.alone]) > 0
    assert weights_and_hooks(loaded.hf) == before
    assert all(torch.equal(weight, numbers[name]) for name, weight in loaded.hf.state_dict().items())
    assert (inside == before) == all(item.alone for item in plan.written), (
        "a tied embedding is exchanged: another record"
    )


def test_a_model_that_keeps_its_decoder_is_gone_when_it_is_deleted(
    kept: Callable[..., list[int]], tmp_path: Path
) -> None:
    """A cycle would hold its memory until Python looks for cycles, which no failed allocation on a GPU makes it do."""
    loaded = load_model(str(tiny_models.build("llama", tmp_path / "llama")), check=False)
    assert generate(loaded, PROMPTS[:2], max_new_tokens=4) and "decoder" in loaded.kept
    gone = weakref.ref(loaded)
    gc.disable()
    try:
        del loaded
        assert gone() is None
    finally:
        gc.enable()


def test_a_decoder_that_outlives_its_model_stands_in_nobodys_way(
    kept: Callable[..., list[int]], tmp_path: Path
) -> None:
    """Held by a traceback or a cycle, it is still asked to forget when another model runs out of memory."""
    loaded = load_model(str(tiny_models.build("llama", tmp_path / "llama")), check=False)
    assert generate(loaded, PROMPTS[:2], max_new_tokens=4)
    decoder, gone = loaded.kept["decoder"], weakref.ref(loaded)
    assert isinstance(decoder, decoding.Decoder)
    del loaded
    assert gone() is None and decoder in HOLDERS and decoder.held_bytes() > 0
    assert forget_held() and decoder.held_bytes() == 0


def test_changes_that_a_record_cannot_know_are_recorded_anew(kept: Callable[..., list[int]]) -> None:
    """Hooks of others, an edit that is more than its tensors, other limits of memory."""
    loaded = model("qwen3")
    recorded = kept(loaded)
    for by in (0.5, -0.5):
        for engine in (PLAIN, Engine()):
            found = generate(loaded, PROMPTS, max_new_tokens=LIMIT, interventions=[Shifted(by)], engine=engine)
            wanted = found if engine is PLAIN else wanted
            assert found == wanted
    plain = expected("qwen3", "plain")
    with loaded.edited([Ablation(_vectors(loaded)[3])]):
        outside = generate(loaded, PROMPTS, max_new_tokens=LIMIT, engine=PLAIN)
        assert generate(loaded, PROMPTS, max_new_tokens=LIMIT) == outside != plain
    count = len(recorded)
    assert generate(loaded, PROMPTS, max_new_tokens=LIMIT) == plain
    (decoder,) = [item for item in HOLDERS if item is loaded.kept["decoder"]]
    assert decoder.held_bytes() > 0 and forget_held() and decoder.held_bytes() == 0
    assert generate(loaded, PROMPTS, max_new_tokens=LIMIT) == plain
    assert len(recorded) > count, "what was given back is made again"
    with torch.inference_mode():
        assert generate(loaded, PROMPTS, max_new_tokens=LIMIT) == plain
    assert generate(loaded, PROMPTS, max_new_tokens=LIMIT) == plain


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


def test_under_autocast_the_plain_loop_writes() -> None:
    """Keys come in another format than the model's: writing them into storage of the model's raised an error."""
    loaded = model("qwen3")
    assert ways.way_of(loaded) == "shared"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wanted = generate(loaded, PROMPTS, max_new_tokens=6, engine=PLAIN)
        assert generate(loaded, PROMPTS, max_new_tokens=6) == wanted
    assert ways.way_of(loaded) == "shared"


def test_most_architectures_repeat_their_steps() -> None:
    found = {name: ways.way_of(model(name)) for name in tiny_models.ARCHITECTURES}
    assert sum(way == "shared" for way in found.values()) >= 12, found
    lengths = {name: {len(item.token_ids) for item in expected(name, "plain")} for name in tiny_models.ARCHITECTURES}
    assert sum(len(each) > 1 for each in lengths.values()) >= 12, (
        f"rows of these tests end at different times: {lengths}"
    )
