"""Inner progress: what loops tell reaches who listens, seldom, and changes nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from refusal_lens.core import progress
from refusal_lens.core.progress import listening, tell
from refusal_lens.executors.base import run_one
from refusal_lens.model import generate, load_model, next_token_logits
from refusal_lens.types import Advance, Task
from tiny_models import build


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)


def test_a_listener_hears_once_a_second_and_nobody_else_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    now, made = [0.0], []
    heard: list[tuple[float, str]] = []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def words() -> str:
        made.append(now[0])
        return "half"

    tell(1, 2, words)
    assert made == [], "nobody listens"
    with listening(lambda *said: heard.append(said)):
        for now[0] in (0.5, 1.0, 1.5, 2.0, 2.5):
            tell(1, 2, words)
        tell(3, 2, "answers")
    now[0] = 9.0
    tell(1, 2, words)
    assert heard == [(0.5, "half"), (0.5, "half")] and made == [1.0, 2.0]


@pytest.mark.usefixtures("at_once")
def test_a_listener_that_is_gone_stops_no_work() -> None:
    def gone(_share: float, _words: str) -> None:
        raise BrokenPipeError

    with listening(gone):
        tell(1, 2, "answers")


def test_telling_costs_about_a_microsecond() -> None:
    """A step of decoding takes milliseconds: what it tells must not show, heard or not."""
    with listening(lambda *_: None):
        started = time.thread_time()
        for _ in range(10_000):
            tell(1, 2, "answers")
        assert (time.thread_time() - started) / 10_000 < 2e-5


@pytest.mark.usefixtures("at_once")
def test_answers_tell_their_tokens_and_one_that_ended_counts_whole(tmp_path: Path) -> None:
    model = load_model(str(build("llama", tmp_path / "model")), device="cpu")
    prompts = ["Hello", "A longer prompt than that"]
    heard: list[tuple[float, str]] = []
    quiet = [item.token_ids for item in generate(model, prompts, max_new_tokens=6)]
    with listening(lambda *said: heard.append(said)):
        assert [item.token_ids for item in generate(model, prompts, max_new_tokens=6)] == quiet, "nothing changes"
        next_token_logits(model, prompts)
    *told, read = heard
    tokens = sum(map(len, quiet))
    assert told[-1] == (1.0, f"2 of 2 answers, {tokens} tokens")
    assert [share for share, _ in told] == sorted(share for share, _ in told) and told[0][0] == 2 / 12
    assert read == (1.0, "2 of 2 prompts read")


@pytest.mark.usefixtures("at_once")
def test_a_task_says_how_far_it_is_by_its_name() -> None:
    heard: list[Advance] = []
    task = Task("scores", 1, "en")
    assert run_one(lambda _: tell(1, 4, "passes"), task, heard.append).status == "done"
    assert heard == [Advance("scores/en", 0.25, "1 of 4 passes")]
