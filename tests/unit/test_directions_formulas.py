"""Refusal score, KL divergence, the prompt tree, token choice and the estimate in closed form."""

from __future__ import annotations

import itertools
import math
import sys
from types import SimpleNamespace

import pytest
import torch

from refusal_lens.directions import Divergence, Shape, Speed, Workload, estimate, probe_speed, refusal_score
from refusal_lens.directions.prefix_cache import grow
from refusal_lens.directions.tokens import pick

ESTIMATING = sys.modules["refusal_lens.directions.estimate"]  # the room gives its name to the function


def test_refusal_score_is_the_log_odds_of_the_tokens_probability() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0], [50.0, 0.0, 0.0, 0.0]])
    p = logits.double().softmax(-1)[:, [1, 3]].sum(-1)
    assert torch.allclose(refusal_score(logits, [1, 3]), (p + 1e-8).log() - (1 - p + 1e-8).log(), atol=1e-12)
    exact = refusal_score(logits, [1, 3], arithmetic="exact")
    assert exact[0].item() == pytest.approx(math.log(math.e + math.exp(-1)) - math.log(1 + math.exp(2)))
    assert exact[1].item() == pytest.approx(math.log(2) - math.log(math.exp(50) + 1))
    assert refusal_score(logits, [1, 3])[1].item() == pytest.approx(math.log(1e-8), abs=1e-6)
    assert refusal_score(logits, [3, 1, 1]).tolist() == refusal_score(logits, [1, 3]).tolist()


def test_divergence_in_both_arithmetics() -> None:
    before, after = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    p, q = before.double().softmax(-1), after.double().softmax(-1)
    published = (p * ((p + 1e-6).log() - (q + 1e-6).log())).sum(-1)
    assert torch.allclose(Divergence(before)(after, prompts=[0, 0]), published, atol=1e-12)
    assert Divergence(before)(after, prompts=[0, 0])[1].item() == pytest.approx(0.0, abs=1e-12)
    true = torch.nn.functional.kl_div(q.log(), p, reduction="none").sum(-1)
    assert torch.allclose(Divergence(before, arithmetic="exact")(after, prompts=[0, 0]), true, atol=1e-12)
    peaked, moved = torch.tensor([[60.0, 0.0]]), torch.tensor([[0.0, 60.0]])
    assert Divergence(peaked)(moved, prompts=[0]).item() == pytest.approx(-math.log(1e-6), abs=1e-3)
    assert Divergence(peaked, arithmetic="exact")(moved, prompts=[0]).item() == pytest.approx(60.0, abs=1e-6)


def test_tree_shares_beginnings_and_loses_nothing() -> None:
    prompts = [[1, 2, 3, 4, 5], [1, 2, 3, 4, 6, 7], [1, 2, 9], [8, 8, 8]]
    segments = grow(prompts)
    for number, prompt in enumerate(prompts):
        (leaf,) = [segment for segment in segments if segment.prompt == number]
        tokens, parent, end = list(leaf.tokens), leaf.parent, leaf.start
        while parent is not None:
            assert segments[parent].end == end
            tokens, end, parent = [*segments[parent].tokens, *tokens], segments[parent].start, segments[parent].parent
        assert tokens == prompt
        assert end == 0
    assert sum(len(segment.tokens) for segment in segments) < sum(map(len, prompts))
    assert all(segment.parent is None or segment.parent < index for index, segment in enumerate(segments))
    assert [segment.prompt for segment in grow(prompts, share=False)] == [0, 1, 2, 3]
    twins = grow([[1, 2, 3, 4, 5, 6]] * 2)
    assert sorted(segment.tokens for segment in twins if segment.prompt is not None) == [(6,), (6,)]


def test_tokens_must_open_refusals_more_than_compliances() -> None:
    opening = torch.tensor([0.5, 0.3, 0.15, 0.009, 0.041])
    other = torch.tensor([0.3, 0.1, 0.0, 0.0, 0.0])
    assert pick(opening, other) == (1, 2, 4)
    assert pick(opening, opening) == ()


def test_estimate_adds_up() -> None:
    shape = Shape(10, 64, 1000, 500_000, 5, 4, on_cpu=True)
    work = Workload(languages=2, sources=1, n_train=8, n_val=4, answers=100, prompt_tokens=20.0, max_new_tokens=30)
    found = estimate(work, shape)
    reads = 2 * 2 * (2 * 8 + 4) + 2 * (2 * 8 * 2) + 50 * 4 * 2.5 + 100
    assert found.forward_passes == reads
    assert found.tokens == reads * 20 + 100 * 30 + 2 * 8 * 2 * 48
    assert found.seconds is None
    assert found.memory_bytes > 500_000 * 4
    timed = estimate(work, shape, speed=Speed(reading=1000.0, writing=100.0))
    assert timed.seconds == pytest.approx(reads * 20 / 1000 + (3000 + 1536) / 100)


def test_memory_of_keys_and_values_counts_the_heads_that_keep_them() -> None:
    """Qwen2.5-7B in 16 bits: 4 heads of 128 keep keys, not the stream's 3,584; 32 rows of 1,024 tokens in 28 layers."""
    work = Workload(languages=2, sources=1, n_train=8, n_val=4, answers=999, prompt_tokens=24.0, max_new_tokens=1000)
    sizes = [
        estimate(work, Shape(28, 3584, 10, 1_000_000, 5, 2, on_cpu=True, key_width=width)).memory_bytes
        for width in (512, 3584)
    ]
    whole = 2 * 32 * 1024 * 28 * 3584 * 2  # bytes of keys and values, every head keeping its own
    assert sizes[1] == 2_000_000 + whole
    assert sizes[0] < sizes[1] / 4, "what is left is the largest pass"
    assert estimate(work, Shape(28, 3584, 10, 1_000_000, 5, 2, on_cpu=True)).memory_bytes == sizes[1]


def test_a_busy_machine_is_not_taken_for_a_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found on the 0.5B: `--dry-run` said 4.5 hours for an hour, because other work held the cores while it measured."""
    shape = Shape(2, 8, 10, 1000, 5, 4, on_cpu=True)
    waited, worked = itertools.count(0.0, 100.0), itertools.count(0.0, 0.004)
    clock = SimpleNamespace(perf_counter=lambda: next(waited), process_time=lambda: next(worked))
    monkeypatch.setattr(ESTIMATING, "time", clock)  # a product takes 100 s, of which two threads work 4 ms together
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert probe_speed(shape, "cpu", "float32").reading == pytest.approx(256 / (0.002 + 2 * 4e-4))


def test_the_model_of_a_gpu_gives_what_was_measured_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """7.62 B parameters in 28 layers on an H200, answers of 128 prompts: 9.2 ms a step, 13,949 tokens/s."""
    shape = Shape(28, 3584, 152_064, 7_620_000_000, 5, 2, on_cpu=False)
    weights = 32_000_000 // 3584 * 3584
    copied = 2 * weights / 4.29e12  # bound by memory at 4.29 TB/s
    monkeypatch.setattr(ESTIMATING, "_timed", lambda *_: copied)
    assert probe_speed(shape, "cpu", "bfloat16").writing == pytest.approx(13_949, rel=0.02)
