"""Rules of the house that no import contract can say: no circles, versions that follow sources, tables with one writer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import step_digests
from refusal_lens.core.tables import TABLES
from refusal_lens.pipeline.registry import STEPS
from refusal_lens.pipeline.step import Ask, Inputs, Kit, Step, Tools


def circles(package: str) -> list[list[str]]:
    """Groups of modules that import each other in a circle, imports for type checking included."""
    grimp = pytest.importorskip("grimp", reason="comes with import-linter, of the dev extra")
    graph = grimp.build_graph(package, cache_dir=None)
    names = sorted(graph.modules)
    place = {name: index for index, name in enumerate(names)}
    pairs = [(place[a], place[b]) for a in names for b in graph.find_modules_directly_imported_by(a) if b in place]
    rows, columns = np.array(pairs).T
    edges = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(names), len(names)))
    _, group = connected_components(edges.tocsr(), connection="strong")
    members = [[name for name, own in zip(names, group, strict=True) if own == one] for one in set(group.tolist())]
    return [found for found in members if len(found) > 1]


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    """Found in review: 16 files of the pipeline and 6 of the run directory imported each other."""
    assert circles("refusal_lens") == []


def test_a_steps_version_follows_its_source() -> None:
    now, before = step_digests.current(), step_digests.recorded()
    changed = sorted(name for name in now if now[name] != before.get(name))
    assert not changed and now.keys() == before.keys(), (
        f"{changed}: raise `version` in the step's STEP where the same parameters and inputs give another result, "
        "then run `python tests/step_digests.py`"
    )


def test_a_digest_sees_code_and_not_prose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = 'import json\n\nLIMIT = 3\n\ndef plan(x):\n    return x\n\ndef compute(x):\n    """Doc."""\n    return x + LIMIT\n'
    file = tmp_path / "one.py"
    digests: list[str] = []
    for change in (
        ("", ""),
        ("Doc.", "Other words."),
        ("import json", "import re  # why"),
        ("return x\n", "return [x]\n"),
        ("x + LIMIT", "x - LIMIT"),
        ("LIMIT = 3", "LIMIT = 4"),
    ):
        file.write_text(body.replace(*change))
        digests.append(step_digests.digest(file))
    assert len(set(digests[:4])) == 1 and len(set(digests)) == 3
    monkeypatch.setattr(step_digests, "TABLE", tmp_path / "table.json")
    step_digests.update(set())
    same = step_digests.recorded()["rates"]["version"]
    changed = {**step_digests.recorded(), "rates": {"version": same, "digest": "x"}}
    monkeypatch.setattr(step_digests, "current", lambda: changed)
    assert step_digests.update(set()) == ["rates"], "a change without a version is refused"
    assert step_digests.update({"rates"}) == []


def test_every_final_table_is_written_by_one_published_step() -> None:
    writers = Counter(table.name for step in STEPS.values() if step.published for table in step.tables)
    assert set(writers) == set(TABLES) and set(writers.values()) == {1}


def test_a_step_reads_only_steps_before_it() -> None:
    seen: set[str] = set()
    for step in STEPS.values():
        assert set(step.reads) <= seen | {step.name}, step.name
        seen.add(step.name)


def test_what_a_step_did_not_declare_it_does_not_get() -> None:
    kit = Kit(model=_absent, base_model=_absent, judge=_absent, prompts=_absent)
    with pytest.raises(AssertionError, match="uses the judge without declaring it"):
        _ = Tools(kit, ("model",)).judge
    with pytest.raises(AssertionError, match="not among the task's inputs"):
        Inputs({}).file("tokens/de", "tokens.json")
    rates: Step = STEPS["rates"]
    with pytest.raises(AssertionError, match=r"reads \['direction'\] without declaring it"):
        rates.task(Ask("all", rates.params(), ("direction/en",)), {})


def _absent(*_: object) -> None:
    raise AssertionError("nothing is made before it is asked for")
