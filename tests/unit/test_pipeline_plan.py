"""The plan is a pure function of configuration and prompts; a field moves only the tasks that read it."""

from __future__ import annotations

import pytest

from refusal_lens.config import AuditConfig, parse_config
from refusal_lens.errors import UserError
from refusal_lens.pipeline import sharing
from refusal_lens.pipeline.dataset import Dataset, all_languages
from refusal_lens.pipeline.dataset import test_part as part_of
from refusal_lens.pipeline.plan import Identity, plan
from refusal_lens.types import HARMS, Prompt, Task


def config(**changes: object) -> AuditConfig:
    tree = {
        "model": {"spec": "testbed:universal"},
        "data": {"languages": ["de", "en"]},
        "directions": {"sources": ["en"]},
        "generation": {"shard_size": 4},
    }
    for path, value in changes.items():
        section, _, key = path.partition("__")
        if key:
            tree.setdefault(section, {})[key] = value
        else:
            tree[section] = value
    return AuditConfig.model_validate(tree)


def dataset(settings: AuditConfig, tests: int = 6) -> Dataset:
    parts = {}
    for language in all_languages(settings):
        parts[f"{language}.select"] = tuple(
            Prompt(f"s{index}", language, harm, "train", f"text {index}") for harm in HARMS for index in range(3)
        )
        if language in settings.data.languages:
            wanted = min(tests, settings.data.limit or tests)
            parts[part_of(language)] = tuple(
                Prompt(f"t{index}", language, harm, "test", f"text {index}")
                for harm in HARMS
                for index in range(wanted)
            )
    return Dataset(parts, ())


IDENTITY = Identity("m", "j")


def planned(settings: AuditConfig, identity: Identity = IDENTITY) -> dict[str, Task]:
    return {task.task_id: task for task in plan(settings, dataset(settings), identity)}


def test_every_input_is_planned_before_it_is_read() -> None:
    seen: set[str] = set()
    for task in planned(config()).values():
        assert set(task.inputs) <= seen, task.task_id
        seen.add(task.task_id)


def test_cells_are_cut_into_shards_of_the_asked_size() -> None:
    tasks = planned(config())
    assert {"completions/baseline.de.harmful.0", "completions/baseline.de.harmful.1"} <= set(tasks)
    assert "completions/baseline.de.harmful.2" not in tasks


@pytest.mark.parametrize(
    ("change", "untouched"),
    [
        ({"data__limit": 2}, {"tokens", "filtering", "candidates", "scores", "selection", "direction"}),
        ({"generation__max_new_tokens": 7}, {"tokens", "candidates", "scores", "selection", "direction", "prompts"}),
        ({"directions__rule": "arditi"}, {"prompts", "tokens", "filtering", "candidates"}),
        ({"interventions__coefficient": 2.0}, {"prompts", "candidates", "selection", "direction"}),
        ({"transport__batch_size": 3, "transport__workers": 2}, {"*"}),
    ],
)
def test_a_field_moves_only_what_reads_it(change: dict[str, object], untouched: set[str]) -> None:
    before, after = planned(config()), planned(config(**change))
    for task_id, task in before.items():
        if untouched == {"*"} or task.step in untouched:
            if task.step == "prompts" and ".test" in task_id:
                continue
            assert after[task_id] == task, task_id
    if untouched != {"*"}:
        assert any(after.get(task_id) != task for task_id, task in before.items())


def test_a_new_language_leaves_the_others_tasks_alone() -> None:
    before, after = planned(config()), planned(config(data__languages=["de", "en", "fr"]))
    per_language = {"prompts", "tokens", "filtering", "candidates", "completions", "verdicts", "direction"}
    for task_id, task in before.items():
        if task.step in per_language and "pooled" not in task_id and "without" not in task_id:
            assert after[task_id] == task, task_id


@pytest.mark.parametrize(
    ("device", "batch_size", "workers", "sizes"),
    [
        # 4 + 2 harmful and 4 + 2 harmless prompts in two languages, in shards of 4
        ("cpu", "auto", 1, [4] * 6),  # a shard, which is what a crash may cost
        ("cpu", 6, 1, [6] * 4),
        ("cpu", 3, 1, [4, 4, 4, 4, 2, 2, 2, 2]),  # no task is cut, and none fits beside another
        ("cuda", "auto", 1, [16, 8]),
        ("cuda", "auto", 2, [12, 12]),
        ("cuda", "auto", 4, [6] * 4),
    ],
)
def test_shards_of_one_kind_are_grouped_up_to_a_batch_and_every_worker_gets_its_part(
    monkeypatch: pytest.MonkeyPatch, device: str, batch_size: object, workers: int, sizes: list[int]
) -> None:
    monkeypatch.setattr(sharing, "resolve_device", lambda _: device)
    settings = config(
        transport__batch_size=batch_size, transport__workers=workers, interventions__names=["ablation"], directions__random=0,
        directions__shuffled=False,
    )  # fmt: skip
    found, tasks = dataset(settings), planned(settings)
    groups = sharing.groups_of(settings, found, list(tasks.values()))
    answered = [name for name, task in tasks.items() if task.step == "completions"]
    assert sorted(name for group in groups for name in group) == sorted(answered), "each once, and nothing else"
    ablated = [group for group in groups if "ablation" in group[0]]
    assert all("ablation" in name for group in ablated for name in group)
    rows = [sum(sharing.answers_of(tasks[name], found) for name in group) for group in ablated]
    assert sorted(rows, reverse=True) == sizes


def test_without_geometry_only_the_sources_are_extracted_from() -> None:
    """Refusal tokens, filter and candidates of a target serve the geometry alone: without it nothing reads them."""
    tasks = planned(config(geometry__enabled=False))
    for step in ("tokens", "filtering", "candidates"):
        assert [task.name for task in tasks.values() if task.step == step] == ["en"]
    everything = planned(config())
    assert {f"tokens/{code}" for code in ("en", "de")} <= set(everything)


def test_model_and_judge_digests_enter_what_they_decide() -> None:
    before, after = planned(config()), planned(config(), Identity("m2", "j2"))
    assert before["completions/baseline.de.harmful.0"] != after["completions/baseline.de.harmful.0"]
    assert before["verdicts/baseline.de.harmful.0"] != after["verdicts/baseline.de.harmful.0"]
    assert before["prompts/de.test"] == after["prompts/de.test"]


def test_an_unknown_key_names_its_nearest_neighbour() -> None:
    with pytest.raises(UserError, match=r"unknown key 'data.limmit'; did you mean 'limit'"):
        parse_config({"model": {"spec": "x"}, "data": {"languages": ["en"], "limmit": 3}}, where="file")


def test_affine_and_the_published_variant_reach_every_ablation_and_say_so_in_the_verdict() -> None:
    before = planned(config())
    for change in ({"interventions__affine": True}, {"interventions__variant": "published"}):
        after = planned(config(**change))
        moved = {task_id for task_id, task in before.items() if after[task_id] != task}
        ablated = {task_id for task_id in before if task_id.startswith(("completions/ablation.", "damage/"))}
        assert moved == ablated | {"universality/all"}
