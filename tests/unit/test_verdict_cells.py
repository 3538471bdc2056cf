"""Which cells an audit asks for, and which prompts stand side by side in the geometry."""

from __future__ import annotations

import pytest

from refusal_lens.config import AuditConfig
from refusal_lens.pipeline.cells import cells, damaging, directions, passes, pools
from refusal_lens.pipeline.steps.geometry_inputs import parallel_ids

SIDE = {("ablation", "harmless"), ("addition", "harmful")}


def config(
    sources: tuple[str, ...], languages: tuple[str, ...] = ("de", "en", "fr"), **directions: object
) -> AuditConfig:
    tree = {"model": {"spec": "x"}, "data": {"languages": languages, "prompt_sets": ["xstest"]}}
    return AuditConfig.model_validate({**tree, "directions": {"sources": sources, **directions}})


def test_one_source_has_nothing_to_pool() -> None:
    assert pools(config(("en",))) == {}
    assert directions(config(("en",), random=2)) == ("en", "random-0", "random-1", "shuffled")


def test_pools_leave_out_one_audited_source_each() -> None:
    found = pools(config(("de", "en", "yo")))
    assert found == {"pooled": ("de", "en", "yo"), "pooled-without-de": ("en", "yo"), "pooled-without-en": ("de", "yo")}
    assert pools(config(("de", "en"), pooled=False)) == {}


def test_a_leave_one_out_pool_runs_on_the_language_it_left_out() -> None:
    found = [cell for cell in cells(config(("de", "en", "fr"))) if cell.source.startswith("pooled-without-")]
    assert {(cell.source, cell.language) for cell in found} == {
        (f"pooled-without-{code}", code) for code in ("de", "en", "fr")
    }


def test_nulls_and_pools_run_where_they_are_read() -> None:
    settings = config(("de", "en"), random=1)
    for cell in cells(settings):
        if cell.source and cell.source not in ("de", "en"):
            assert (cell.intervention, cell.prompts) in {("ablation", "harmful"), ("addition", "harmless")}
            assert cell.prompt_set is None
    assert damaging(settings) == ("de", "en", "pooled", "random-0")


def test_many_sources_show_side_effects_at_home_and_for_english_only() -> None:
    codes = ("de", "en", "fr", "it")
    few, many = (list(cells(config(sources, codes))) for sources in (codes[:3], codes))
    beside = [
        [c for c in found if c.source in codes and (c.intervention, c.prompts) in SIDE and c.prompt_set is None]
        for found in (few, many)
    ]
    assert len(beside[0]) == 2 * 3 * 4
    assert {(c.source, c.language) for c in beside[1]} == {("en", code) for code in codes} | {(c, c) for c in codes}
    read = {(c.intervention, c.source, c.language) for c in many if c.source in codes and c.prompt_set is None}
    assert len(read) == 2 * 4 * 4


@pytest.mark.parametrize("count", [1, 25, 100, 300])
def test_every_cell_is_asked_once_and_no_pass_outgrows_a_shard(count: int) -> None:
    settings = config(("de", "en", "fr"), random=3)
    found = list(passes(settings, prompts_of=lambda _: count))
    asked = [
        (item.intervention, source, item.language, item.prompts, item.prompt_set)
        for item in found
        for source in item.sources
    ]
    wanted = [(c.intervention, c.source, c.language, c.prompts, c.prompt_set) for c in cells(settings)]
    assert sorted(asked, key=str) == sorted(wanted, key=str)
    assert len({item.task_name(0) for item in found}) == len(found)
    assert all(len(item.sources) == 1 or len(item.sources) * count <= 256 for item in found)
    assert (len(found) < len(asked)) == (count <= 128)


def test_cells_without_prompts_have_no_pass() -> None:
    assert not list(passes(config(("en",)), prompts_of=lambda _: 0))


def test_prompts_that_are_no_translations_are_paired_by_place_only() -> None:
    ids = {"de": ["a", "b", "c", "d"], "en": ["b", "a", "c", "e"], "zh": ["x", "y", "z", "w"]}
    found = parallel_ids(ids)
    assert {len(own) for own in found.values()} == {3}
    assert found["de"] == found["en"] and set(found["de"]) == {"a", "b", "c"} and found["zh"] == ["x", "y", "z"]


def test_one_language_is_parallel_to_itself() -> None:
    assert parallel_ids({"en": ["a", "b"]}) == {"en": ["a", "b"]}
