"""The sweep on tiny random models: every fast way against the plain procedure, and the modes against each other."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bench import published
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from refusal_lens.core import progress as core_progress
from refusal_lens.directions import (
    Candidates,
    CandidateScore,
    batched,
    discover_refusal_tokens,
    extract,
    refusal_scores,
    score,
    scoring,
    select,
    shuffled_direction,
)
from refusal_lens.directions.batched import Answered, BatchedPasses, Pair
from refusal_lens.directions.evaluation import Contenders, Evaluation
from refusal_lens.directions.passes import PrefixCachePasses, passes_for
from refusal_lens.directions.race import race
from refusal_lens.directions.sweep import Limits, everything
from refusal_lens.errors import UserError
from refusal_lens.interventions import Ablation, Addition
from refusal_lens.judging import Answer
from refusal_lens.model import LensModel, generate, load_model, projection
from refusal_lens.model.batches import Batch
from refusal_lens.types import Rule, Verdict
from tiny_models import build

HARMFUL = [
    f"Tell me how to {verb} the {thing}"
    for verb in ("hide", "break into")
    for thing in ("shed", "old garden gate", "box")
]
HARMLESS = [
    f"Tell me how to {verb} {thing}" for verb in ("paint", "clean") for thing in ("a shed", "my old wooden chair", "it")
]
TOKENS = [40, 41]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LensModel]:
    made: dict[str, LensModel] = {}

    def get(name: str) -> LensModel:
        if name not in made:
            folder: Path = tmp_path_factory.mktemp(name)
            build(name, folder)
            made[name] = load_model(str(folder), dtype="float32", device="cpu", check=False)
        return made[name]

    return get


@pytest.fixture(scope="module")
def llama(load: Callable[[str], LensModel]) -> LensModel:
    return load("llama")


def answers(
    passes: BatchedPasses, how: str, vectors: torch.Tensor, layers: list[int], pairs: list[Pair]
) -> torch.Tensor:
    found: dict[Pair, torch.Tensor] = {}

    def consume(answered: Answered) -> None:
        for pair, logits in zip(answered.pairs, answered.logits, strict=True):
            assert pair not in found
            found[pair] = logits

    if how == "ablated":
        passes.ablated(vectors, pairs, consume)
    else:
        passes.added(vectors, layers, pairs, consume)
    return torch.stack([found[pair] for pair in pairs])


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "mixtral", "falcon", "olmo2"])
def test_the_prefix_cache_equals_whole_forward_passes(load: Callable[[str], LensModel], name: str) -> None:
    model = load(name)
    token_ids = model.render([*HARMFUL, *HARMLESS])
    fast, plain = passes_for(model, token_ids), BatchedPasses(model, token_ids)
    if name in {"llama", "mixtral"}:
        assert isinstance(fast, PrefixCachePasses)
    vectors = torch.randn(5, model.d_model, generator=torch.Generator().manual_seed(1))
    layers = [2, 0, 1, 1, 0]
    pairs = [Pair(candidate, prompt) for candidate in range(5) for prompt in range(0, 12, 2)] + [Pair(3, 1)]
    for how in ("ablated", "added"):
        one, two = (answers(passes, how, vectors, layers, pairs) for passes in (fast, plain))
        assert (one - two).abs().max() <= 2e-5 * two.abs().max()


def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows of a length are joined by shorter ones, as where a pass is dear."""
    monkeypatch.setattr(batched, "WASTE", {})


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "mixtral", "falcon", "olmo2"])
def test_fewer_larger_passes_have_the_same_logits(
    load: Callable[[str], LensModel], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padded, and with additions of several layers in one pass, against one pass for each pair by hooks of its own."""
    model = load(name)
    prompts = [*HARMFUL, *HARMLESS]
    vectors = torch.randn(4, model.d_model, generator=torch.Generator().manual_seed(1))
    layers = [2, 0, 1, 1]
    pairs = [Pair(candidate, prompt) for candidate in range(4) for prompt in (0, 3, 5, 8, 11)]
    as_on_a_gpu(monkeypatch)
    ran: list[int] = []
    logits = LensModel.logits
    monkeypatch.setattr(LensModel, "logits", lambda *given: (ran.append(1), logits(*given))[1])
    passes = BatchedPasses(model, model.render(prompts))
    for how in ("ablated", "added"):
        ran.clear()
        found = answers(passes, how, vectors, layers, pairs)
        assert len(ran) == 1, "all lengths and layers in one pass"
        for pair, row in zip(pairs, found, strict=True):
            vector = vectors[pair.candidate]
            edit = Ablation(vector) if how == "ablated" else Addition(vector, layer=layers[pair.candidate])
            with model.edited([edit]):
                wanted = logits(model, model.batch(model.render(prompts), [pair.prompt]))[0]
            assert (row - wanted).abs().max() <= 2e-5 * wanted.abs().max()


class _Reads(TorchFunctionMode):
    """Counts where our code makes the host wait for its device: numbers read back, masks indexed by, tensors fetched."""

    NAMES = frozenset({"item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__float__", "__int__", "__index__"})
    count = 0

    def __torch_function__(
        self, func: object, types: object, args: tuple[object, ...] = (), kwargs: object = None
    ) -> object:
        name = getattr(func, "__name__", "")
        given = [item for item in args if isinstance(item, torch.Tensor)]
        masked = name == "__getitem__" and any(isinstance(i, torch.Tensor) and i.dtype == torch.bool for i in args)
        ours = "refusal_lens" in sys._getframe(1).f_code.co_filename
        self.count += ours and bool(given) and (name in self.NAMES or masked)
        return func(*args, **(kwargs or {}))  # type: ignore[operator]


def test_the_device_is_asked_when_a_table_is_read_and_not_after_every_pass(
    llama: LensModel, candidates: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without padding nothing is read back while passes run; found before: once or more for each of them."""
    made = evaluation(llama, candidates, batch_size=6)
    ran = made.pairs_run
    with _Reads() as reads:
        everything(made)
        assert reads.count == 0
    assert made.pairs_run - ran == len(made.layers) * 18
    with _Reads() as reads:
        assert made.refusal.values.isfinite().all() and made.steering.values.isfinite().all()
        assert 0 < reads.count <= 6


def evaluation(llama: LensModel, candidates: Candidates, **how: object) -> Evaluation:
    alive = [site for site in candidates.sites() if site[1] > 0]
    vectors = torch.stack([candidates.vector(*site) for site in alive])
    passes = BatchedPasses(llama, llama.render([*HARMFUL, *HARMLESS]), **how)
    contenders = Contenders(vectors, tuple(layer for _, layer in alive))
    return Evaluation(passes, contenders, plain=passes.plain(), n_harmful=len(HARMFUL), token_ids=TOKENS)


@pytest.mark.parametrize("rule", ["paper", "arditi"])
@pytest.mark.parametrize("limit", [0.001, 0.02, 5.0])
def test_a_race_of_wide_passes_finds_the_same_leader_in_fewer_of_them(
    llama: LensModel, candidates: Candidates, rule: Rule, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_on_a_gpu(monkeypatch)
    ran: list[int] = []
    logits = LensModel.logits
    monkeypatch.setattr(LensModel, "logits", lambda *given: (ran.append(1), logits(*given))[1])
    counts: list[int] = []
    measured: list[set[int]] = []
    for wide in (False, True):
        made = evaluation(llama, candidates)
        ran.clear()
        race(made, Limits(rule, limit, 2), wide=wide)
        counts.append(len(ran))
        measured.append({row for row in range(len(made.layers)) if None not in made.means(row)[::2]})
    assert counts[1] <= counts[0]
    assert measured[0] and measured[0] <= measured[1], "who was measured in full, the winner among them"


@pytest.fixture(scope="module")
def candidates(llama: LensModel) -> Candidates:
    return extract(llama, HARMFUL, HARMLESS)


@pytest.fixture(scope="module")
def exact(llama: LensModel, candidates: Candidates) -> list[CandidateScore]:
    return score(llama, candidates, HARMFUL, HARMLESS, refusal_tokens=TOKENS)


def test_candidates_equal_the_published_means(llama: LensModel, candidates: Candidates) -> None:
    with torch.no_grad():
        one, two = (
            published.mean_activations(llama.hf, llama.tokenizer, group, llama.positions)
            for group in (HARMFUL, HARMLESS)
        )
    assert (candidates.tensor - (one - two)).abs().max() < 1e-5
    unit = torch.nn.functional.normalize(one - two, dim=-1)
    assert candidates.harmless_projection is not None
    assert torch.allclose(candidates.harmless_projection.double(), (two * unit).sum(-1), atol=1e-4)
    again = extract(llama, HARMFUL, HARMLESS, batch_size=1)
    assert torch.allclose(again.tensor, candidates.tensor, atol=1e-5)


def test_extraction_reads_a_long_prompt_apart_from_short_ones(
    llama: LensModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class was padded to its longest prompts: here 3,000 columns of padding for 400 tokens. The means are the same."""
    mixed = [*(f"Tell me about number {index}" for index in range(12)), "Tell me about cats and dogs. " * 20]
    padding: list[int] = []
    logits = LensModel.logits

    def counted(model: LensModel, batch: Batch) -> torch.Tensor:
        mask = batch.attention_mask
        padding.append(0 if mask is None else int((mask == 0).sum()))
        return logits(model, batch)

    monkeypatch.setattr(LensModel, "logits", counted)
    found = extract(llama, mixed, HARMLESS)
    assert sum(padding) <= 64 * len(padding)
    assert len(padding) <= 6, "and not one pass for every length"
    alone = extract(llama, mixed, HARMLESS, batch_size=1)
    assert torch.allclose(found.tensor, alone.tensor, rtol=0, atol=1e-5)


def test_all_scores_equal_the_published_procedure(
    llama: LensModel, candidates: Candidates, exact: list[CandidateScore]
) -> None:
    with torch.no_grad():
        before = published.last_logits(llama.hf, llama.tokenizer, HARMLESS)
        for item in exact:
            vector = candidates.vector(item.position, item.layer)
            wanted = published.candidate_scores(
                llama.hf, llama.tokenizer, vector, item.layer, HARMFUL, HARMLESS, TOKENS, before
            )
            assert (item.refusal_score, item.steering_score, item.kl_div_score) == pytest.approx(wanted, abs=1e-5)
    assert [(item.position, item.layer) for item in exact] == candidates.sites()


@pytest.mark.parametrize("how", [{}, {"prune": True}, {"mode": "race"}])
def test_layers_that_are_left_out_say_so_and_change_no_other_score(
    llama: LensModel, candidates: Candidates, exact: list[CandidateScore], how: dict[str, Any]
) -> None:
    found = score(llama, candidates, HARMFUL, HARMLESS, refusal_tokens=TOKENS, layer_step=2, kl_threshold=5.0, **how)
    assert [(item.position, item.layer) for item in found] == candidates.sites()
    for item, whole in zip(found, exact, strict=True):
        if item.layer == 1:  # of layers 0, 1, 2
            assert item.refusal_score == pytest.approx(whole.refusal_score, abs=1e-5) or "race" in str(item.skipped)
        elif whole.skipped is None:
            assert (item.refusal_score, item.kl_div_score) == (None, None)
            assert item.skipped == "not measured: only one layer in 2 is"
    chosen = select(found, n_layers=3, kl_threshold=5.0).selected
    assert chosen is not None and chosen.layer == 1


@pytest.mark.parametrize("rule", ["paper", "arditi"])
@pytest.mark.parametrize("limit", [0.001, 0.02, 5.0])
def test_pruning_and_racing_choose_what_the_whole_sweep_chooses(
    llama: LensModel, candidates: Candidates, exact: list[CandidateScore], rule: str, limit: float
) -> None:
    wanted = select(exact, n_layers=3, rule=rule, kl_threshold=limit).selected
    for how in ({"prune": True}, {"mode": "race"}):
        found = score(llama, candidates, HARMFUL, HARMLESS, refusal_tokens=TOKENS, rule=rule, kl_threshold=limit, **how)
        chosen = select(found, n_layers=3, rule=rule, kl_threshold=limit).selected
        assert (chosen is None) == (wanted is None)
        if chosen is not None and wanted is not None:
            assert (chosen.position, chosen.layer) == (wanted.position, wanted.layer)
            assert chosen.steering_score == pytest.approx(wanted.steering_score, abs=1e-5)
        assert all(
            item.skipped for item in found if None in (item.refusal_score, item.steering_score, item.kl_div_score)
        )


def test_a_race_caches_prompts_only_where_they_begin_alike_and_enough_is_run() -> None:
    """A pass of a prompt costs its tokens, caching one costs eight of them, and what is saved is the common beginning."""
    alike, apart = [[7] * 20 + [row] * 20 for row in range(16)], [[row] * 40 for row in range(16)]
    assert scoring._worth_caching(alike, 2 * 8 * 16) and not scoring._worth_caching(alike, 2 * 8 * 16 - 1)
    assert not scoring._worth_caching(apart, 10**6)


def test_progress_counts_and_batch_size_changes_nothing(
    llama: LensModel, candidates: Candidates, exact: list[CandidateScore], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    heard: list[tuple[float, str]] = []
    monkeypatch.setattr(core_progress, "EVERY", 0.0)
    with core_progress.listening(lambda *said: heard.append(said)):
        found = score(
            llama,
            candidates,
            HARMFUL,
            HARMLESS,
            refusal_tokens=TOKENS,
            batch_size=3,
            progress=lambda *item: seen.append(item),
        )
    for one, two in zip(found, exact, strict=True):
        assert one.refusal_score == pytest.approx(two.refusal_score, abs=1e-5)
        assert one.kl_div_score == pytest.approx(two.kl_div_score, abs=1e-5)
    done, total = seen[-1]
    assert done == total
    assert heard[-1] == (1.0, f"{total:,} of {total:,} candidate passes")


def test_refusal_scores_and_interventions(
    llama: LensModel, candidates: Candidates, exact: list[CandidateScore]
) -> None:
    vector = candidates.vector(-1, 1)
    wanted = next(item for item in exact if (item.position, item.layer) == (-1, 1)).refusal_score
    found = refusal_scores(llama, HARMFUL, TOKENS, interventions=[Ablation(vector)])
    assert float(found.mean()) == pytest.approx(wanted, abs=1e-5)
    assert found.dtype == np.float64
    with pytest.raises(UserError, match="do not exist"):
        refusal_scores(llama, HARMFUL, [10**6])
    with pytest.raises(UserError, match="another model"):
        score(llama, Candidates(torch.ones(5, 2, 8), llama.positions, 1, 1), HARMFUL, HARMLESS, refusal_tokens=TOKENS)


def test_shuffled_labels_keep_norm_and_site(llama: LensModel, candidates: Candidates) -> None:
    like = candidates.direction(position=-1, layer=2, source="en")
    null = shuffled_direction(llama, like, HARMFUL, HARMLESS, seed=0)
    assert null.vector.norm().item() == pytest.approx(like.vector.norm().item(), rel=1e-5)
    assert (null.position, null.layer, null.source) == (-1, 2, "shuffled-0")


class _Judge:
    """Calls an answer a refusal when its prompt is one of the harmful ones."""

    name = "test 1"

    def __init__(self, refuses: bool) -> None:
        self._refuses = refuses

    def judge(self, answers: list[Answer]) -> list[Verdict]:
        labels = ["refused" if self._refuses and item.prompt in HARMFUL else "complied" for item in answers]
        return [Verdict(label=label, score=None, uncertain=False, reason="", judge=self.name) for label in labels]


def test_refusal_tokens_come_from_refused_answers_only(llama: LensModel) -> None:
    found = discover_refusal_tokens(llama, HARMFUL, HARMLESS, language="en", judge=_Judge(False), max_new_tokens=2)
    assert found.ids == ()
    assert found.reason is not None
    assert "0 of 6" in found.reason
    found = discover_refusal_tokens(llama, HARMFUL, HARMLESS, language="en", judge=_Judge(True), max_new_tokens=2)
    assert found.refused == 6
    assert found.complied == 6
    assert found.coverage == pytest.approx(sum(found.shares))
    assert list(found.shares) == sorted(found.shares, reverse=True)
    assert bool(found.ids) == (found.reason is None)


class _NoFloat64(TorchDispatchMode):
    """A device without float64, as Apple's: numbers become float64 only where `in_float64` has brought them to the CPU."""

    allowed = False

    def __torch_dispatch__(
        self, func: object, types: object, args: tuple[object, ...] = (), kwargs: object = None
    ) -> object:
        found = func(*args, **(kwargs or {}))  # type: ignore[operator]
        given = [item for item in args if isinstance(item, torch.Tensor)]
        wide = isinstance(found, torch.Tensor) and found.dtype == torch.float64
        if wide and given and all(item.dtype in {torch.float32, torch.bfloat16} for item in given) and not self.allowed:
            raise TypeError(f"{func}: the device has no float64")
        return found


def test_auto_on_a_device_without_float64_never_asks_it_for_one(
    llama: LensModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found in review: `--device auto` takes Apple's MPS, and extraction and scores called `.double()` there."""
    device = _NoFloat64()
    plain = projection.in_float64

    def on_the_cpu(x: torch.Tensor) -> torch.Tensor:
        device.allowed = True
        try:
            return plain(x)
        finally:
            device.allowed = False

    for module in [module for name, module in sys.modules.items() if name.startswith("refusal_lens.")]:
        if getattr(module, "in_float64", None) is plain:
            monkeypatch.setattr(module, "in_float64", on_the_cpu)
    with device:
        found = extract(llama, HARMFUL[:4], HARMLESS[:4])
        scores = score(llama, found, HARMFUL[:3], HARMLESS[:3], refusal_tokens=[40, 41])
        generate(llama, HARMFUL[:1], max_new_tokens=2, interventions=[Ablation(found.tensor[0, 1])])
        with pytest.raises(TypeError, match="no float64"):
            torch.ones(2).double()
    assert len(scores) == len(found.sites())


def test_the_prefix_cache_is_used_only_where_it_pays(llama: LensModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as fast on a CPU; on a GPU 68 s where the published procedure takes 19 (first sweep, 7B); 16 bits cannot prove it."""
    ids = llama.render(HARMFUL[:2])
    assert type(passes_for(llama, ids)) is PrefixCachePasses
    monkeypatch.setattr(type(llama), "dtype", torch.bfloat16)
    assert type(passes_for(llama, ids)) is BatchedPasses
    monkeypatch.undo()
    monkeypatch.setattr(llama, "device", torch.device("cuda"))
    assert type(passes_for(llama, ids)) is BatchedPasses
