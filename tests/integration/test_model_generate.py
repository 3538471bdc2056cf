"""Generation: transformers' own tokens, whatever the batch; rows leave, memory runs out, rows are decided early."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import tiny_models
from refusal_lens.errors import DataError
from refusal_lens.interventions import Ablation, Addition, intervening
from refusal_lens.model import LensModel, generate, load_model, next_token_logits, record

PROMPTS = [
    "What?",
    "Tell me a story about cats and dogs, please, and make it long",
    "写一首诗。",
    "How do I bake bread?",
    "Write a poem about seven",
    "Ẹ jọ̀ọ́, sọ ìtàn kan fún mi",
    "Zähle bis zehn",
    "Tell me",
]
LIMIT = 24


@pytest.fixture(scope="module")
def lens(tmp_path_factory: pytest.TempPathFactory) -> LensModel:
    loaded = load_model(str(tiny_models.build("qwen3", tmp_path_factory.mktemp("models") / "qwen3", seed=5)))
    written = [token for answer in generate(loaded, PROMPTS, max_new_tokens=LIMIT) for token in answer.token_ids]
    # a random model rarely says its end token: the tokens it says most often end its answers here
    loaded.end_ids = tuple(sorted(set(written), key=lambda token: (-written.count(token), token))[2:6])
    return loaded


def _transformers(lens: LensModel, prompt: str) -> list[int]:
    ids = torch.tensor([lens.render([prompt])[0]])
    found = lens.hf.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=LIMIT, do_sample=False, eos_token_id=list(lens.end_ids)
    )
    return found[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("batch_size", [1, 3, 8, "auto"])
def test_same_tokens_as_transformers_one_by_one(lens: LensModel, batch_size: int) -> None:
    answers = generate(lens, PROMPTS, max_new_tokens=LIMIT, batch_size=batch_size)
    assert [list(answer.token_ids) for answer in answers] == [_transformers(lens, prompt) for prompt in PROMPTS]
    assert [answer.finished for answer in answers] == [answer.token_ids[-1] in lens.end_ids for answer in answers]
    assert len({len(answer.token_ids) for answer in answers}) > 2, "rows of this test end at different times"


@pytest.mark.parametrize("name", ["mistral", "gemma3", "gpt2"])
def test_rows_leave_sliding_windows_and_learned_positions_alike(name: str, tmp_path: Path) -> None:
    loaded = load_model(str(tiny_models.build(name, tmp_path / name)))
    free = generate(loaded, PROMPTS, max_new_tokens=LIMIT)
    loaded.end_ids = tuple({answer.token_ids[index] for index, answer in enumerate(free)})
    answers = generate(loaded, PROMPTS, max_new_tokens=LIMIT)
    assert [list(answer.token_ids) for answer in answers] == [_transformers(loaded, prompt) for prompt in PROMPTS]


def test_interventions_act_in_prefill_and_decode(lens: LensModel) -> None:
    addition = Addition(torch.randn(lens.d_model, generator=torch.Generator().manual_seed(1)) * 3, layer=1)
    ablation = Ablation(torch.randn(lens.d_model, generator=torch.Generator().manual_seed(2)))
    plain = generate(lens, PROMPTS, max_new_tokens=LIMIT)
    for interventions in ([addition], [ablation], [ablation, addition], [Ablation(ablation.direction, reference=0.5)]):
        ours = generate(lens, PROMPTS, max_new_tokens=LIMIT, interventions=interventions)
        with intervening(lens, interventions):
            assert [list(answer.token_ids) for answer in ours] == [_transformers(lens, prompt) for prompt in PROMPTS]
        assert ours != plain


@pytest.mark.parametrize("kind", ["ablation", "affine", "addition"])
@pytest.mark.parametrize("batch_size", [3, "auto"])
def test_a_direction_per_prompt_follows_its_row(lens: LensModel, kind: str, batch_size: int | str) -> None:
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(len(PROMPTS), lens.d_model, generator=generator) * 8
    directions[2] = 0

    def edit(rows: slice | int) -> Ablation | Addition:
        if kind == "addition":
            return Addition(directions[rows], layer=1)
        targets = torch.linspace(-3, 3, len(PROMPTS))
        return Ablation(directions[rows], reference=targets[rows] if kind == "affine" else None)

    together = generate(lens, PROMPTS, max_new_tokens=LIMIT, batch_size=batch_size, interventions=[edit(slice(None))])
    alone = [
        generate(lens, [prompt], max_new_tokens=LIMIT, interventions=[edit(row)], fold="never")[0]
        for row, prompt in enumerate(PROMPTS)
    ]
    assert [item.token_ids for item in together] == [item.token_ids for item in alone]
    assert len({len(item.token_ids) for item in alone}) > 1, "rows of this test end at different times"
    plain = generate(lens, PROMPTS, max_new_tokens=LIMIT)
    assert sum(a.token_ids != b.token_ids for a, b in zip(plain, alone, strict=True)) >= 5


def test_a_zero_direction_changes_no_answer(lens: LensModel) -> None:
    assert generate(lens, PROMPTS, max_new_tokens=8, interventions=[Ablation(torch.zeros(lens.d_model))]) == generate(
        lens, PROMPTS, max_new_tokens=8
    )


def test_out_of_memory_halves_and_keeps_what_is_done(lens: LensModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = generate(lens, PROMPTS, max_new_tokens=LIMIT)
    forward, rows_seen = lens.hf.forward, list[int]()

    def small(*, input_ids: torch.Tensor, **rest: object) -> object:
        rows_seen.append(input_ids.shape[0])
        if input_ids.shape[0] > 4 and len(rows_seen) > 1:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        return forward(input_ids=input_ids, **rest)

    monkeypatch.setattr(lens.hf, "forward", small)
    told: list[tuple[int, int]] = []
    found = generate(
        lens, PROMPTS, max_new_tokens=LIMIT, batch_size="auto", progress=lambda done, total: told.append((done, total))
    )
    assert found == expected
    assert max(rows_seen) > 4 >= max(rows_seen[2:]), "after the error no pass is as large"
    assert [done for done, _ in told] == list(range(1, 9)), "every answer is done once"


def test_no_room_for_folding_falls_back_to_hooks(lens: LensModel, monkeypatch: pytest.MonkeyPatch) -> None:
    ablation = Ablation(torch.randn(lens.d_model, generator=torch.Generator().manual_seed(2)))
    expected = generate(lens, PROMPTS, max_new_tokens=8, interventions=[ablation], fold="never")

    def no_room(*_: object) -> Iterator[None]:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(sys.modules["refusal_lens.model.generate"], "folding", no_room)
    assert generate(lens, PROMPTS, max_new_tokens=8, interventions=[ablation]) == expected


def test_decided_rows_stop_early(lens: LensModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lens, "end_ids", ())
    full = generate(lens, PROMPTS, max_new_tokens=40)
    asked: list[int] = []

    def stop(row: int, text: str) -> bool:
        asked.append(row)
        return row % 2 == 1

    early = generate(lens, PROMPTS, max_new_tokens=40, stop_when=stop)
    for row, (short, long) in enumerate(zip(early, full, strict=True)):
        assert short.token_ids == long.token_ids[: len(short.token_ids)]
        assert len(long.token_ids) == 40
        assert (len(short.token_ids), short.finished) == (16 if row % 2 == 1 else 40, False)
        assert (short.decided, long.decided) == (row % 2 == 1, False)
    assert asked.count(0) == 2, "asked every 16 tokens"


def test_prompts_beyond_the_context_are_named(lens: LensModel) -> None:
    monster = "cats " * 600
    assert lens.too_long(["fine", monster]) == [1]
    with pytest.raises(DataError, match="prompt 1 has"):
        generate(lens, ["fine", monster], max_new_tokens=4)


def test_answers_end_where_the_context_ends(lens: LensModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = "cats " * 200
    length = len(lens.render([prompt])[0])
    monkeypatch.setattr(lens, "end_ids", ())
    monkeypatch.setattr(lens, "context", length + 5)
    (answer,) = generate(lens, [prompt], max_new_tokens=50)
    assert (len(answer.token_ids), answer.finished) == (5, False)


def test_nothing_asked_nothing_answered(lens: LensModel) -> None:
    assert generate(lens, [], max_new_tokens=4) == []


def test_hooks_do_not_stay_after_an_error(lens: LensModel) -> None:
    def hooks() -> int:
        return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in lens.hf.modules())

    before = hooks()
    ablation = Ablation(torch.randn(lens.d_model))

    def fail() -> None:
        with intervening(lens, [ablation, Addition(ablation.direction, layer=0)]):
            assert hooks() > before
            raise KeyError("on purpose")

    with pytest.raises(KeyError):
        fail()
    with (
        pytest.raises(ValueError, match="acts nowhere"),
        intervening(lens, [ablation, Addition(ablation.direction, layer=99)]),
    ):
        pass
    assert hooks() == before


@pytest.mark.parametrize("name", ["qwen3", "gpt2", "gemma3"])
def test_a_long_prompt_does_not_shorten_the_answers_of_its_batch(name: str, tmp_path: Path) -> None:
    loaded = load_model(str(tiny_models.build(name, tmp_path / name, seed=5)))
    loaded.end_ids = ()
    long = "cats"
    while len(loaded.render([long + " cats"])[0]) < 60:
        long += " cats"
    length = len(loaded.render([long])[0])
    middle = "cats cats cats"
    loaded.context = length + 5
    short = ["What?", middle, "Tell me"]
    rows = torch.randn(4, loaded.d_model, generator=torch.Generator().manual_seed(1)) * 3
    for interventions in ((), (Addition(rows, layer=1),)):
        mixed = generate(loaded, [*short, long], max_new_tokens=30, interventions=interventions)
        for index, prompt in enumerate(short):
            own = [item.rows([index]) for item in interventions]
            (alone,) = generate(loaded, [prompt], max_new_tokens=30, interventions=own)
            assert mixed[index] == alone
            expected = min(30, loaded.context - len(loaded.render([prompt])[0]))
            assert (len(alone.token_ids), alone.finished) == (expected, False), "room of its own prompt"
        assert len(mixed[3].token_ids) == 5


@pytest.mark.parametrize("batch_size", [3, 8])
def test_a_direction_per_prompt_follows_its_prompt_into_logits_and_recordings(lens: LensModel, batch_size: int) -> None:
    directions = torch.randn(len(PROMPTS), lens.d_model, generator=torch.Generator().manual_seed(1))
    own = [[Addition(direction * 3, 1)] for direction in directions]
    alone = torch.cat(
        [next_token_logits(lens, [text], interventions=change) for text, change in zip(PROMPTS, own, strict=True)]
    )
    shared = [Addition(directions * 3, 1)]
    torch.testing.assert_close(
        next_token_logits(lens, PROMPTS, interventions=shared, batch_size=batch_size), alone, rtol=0, atol=1e-4
    )
    for rows, seen in record(lens, PROMPTS, positions=[-1], interventions=shared, batch_size=batch_size):
        for row, found in zip(rows, seen, strict=True):
            ((_, right),) = record(lens, [PROMPTS[row]], positions=[-1], interventions=own[row])
            torch.testing.assert_close(found, right[0], rtol=0, atol=1e-4)
