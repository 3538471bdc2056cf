"""Batches: padding, order, and going on with less when memory runs out."""

from __future__ import annotations

import pytest
import torch

from refusal_lens.errors import ModelError
from refusal_lens.model.batches import chunks, is_out_of_memory, like_lengths, padded, passes, run_shrinking

CPU = torch.device("cpu")


def test_left_padding_with_positions_from_the_first_real_token() -> None:
    batch = padded([[5, 6, 7], [8]], [0, 1], pad=9, device=CPU)
    assert batch.input_ids.tolist() == [[5, 6, 7], [9, 9, 8]]
    assert batch.position_ids.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert batch.attention_mask is not None
    assert batch.attention_mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_no_mask_where_nothing_is_padded() -> None:
    assert padded([[1, 2], [3, 4]], [1, 0], pad=0, device=CPU).attention_mask is None


def test_chunks_cover_all_rows_longest_first() -> None:
    lengths = [3, 9, 1, 9, 4]
    groups = list(chunks(lengths, 2, tokens=100))
    assert groups == [[1, 3], [4, 0], [2]]
    auto = list(chunks(lengths, "auto", tokens=18))
    assert sorted(row for group in auto for row in group) == [0, 1, 2, 3, 4]
    assert all(len(group) * lengths[group[0]] <= 18 for group in auto)
    with pytest.raises(ValueError, match="batch_size"):
        list(chunks(lengths, 0, tokens=10))


def test_a_pass_ends_where_padding_costs_more_than_another() -> None:
    lengths = [10, 50, 9, 48, 10]
    assert list(like_lengths(lengths, tokens=1000, waste=0)) == [[1], [3], [0, 4], [2]]
    assert list(like_lengths(lengths, tokens=1000, waste=2)) == [[1, 3], [0, 4, 2]]
    assert list(like_lengths(lengths, tokens=20, waste=99)) == [[1], [3], [0, 4], [2]], "20 tokens hold two rows of 10"
    assert list(like_lengths(lengths, tokens=1, waste=99, rows=3)) == [[1, 3, 0], [4, 2]]
    gpu = list(passes([400] * 2 + [30] * 126, torch.device("cuda")))
    assert [len(group) for group in gpu] == [7, 121], "370 tokens of padding a row: five rows under 2,048"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("x"), RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()]
)
def test_out_of_memory_halves_and_loses_nothing(error: Exception) -> None:
    attempts: list[int] = []

    def compute(rows: list[int]) -> list[int]:
        attempts.append(len(rows))
        if len(rows) > 3:
            raise error
        return rows

    done = [row for rows in run_shrinking(iter([list(range(8)), list(range(8, 16))]), compute) for row in rows]
    assert done == list(range(16)), "every row once, in order"
    assert attempts.count(8) == 1, "what did not fit once is not tried again"


def test_one_row_too_many_is_the_users_error() -> None:
    def compute(rows: list[int]) -> None:
        raise torch.OutOfMemoryError("x")

    with pytest.raises(ModelError, match="single prompt"):
        list(run_shrinking(iter([[0, 1]]), compute))


def test_other_errors_pass() -> None:
    def compute(rows: list[int]) -> None:
        raise RuntimeError("shapes differ")

    assert not is_out_of_memory(RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes"):
        list(run_shrinking(iter([[0, 1]]), compute))
