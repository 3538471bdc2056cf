"""Under Ray no local process loads the model: a worker says what it measured, and the header holds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusal_lens.config import parse_config
from refusal_lens.executors import SequentialExecutor
from refusal_lens.interventions import check_model
from refusal_lens.model import load_model
from refusal_lens.pipeline import audit as driver
from refusal_lens.pipeline import prepare, run_audit
from refusal_lens.rundir import RunDir, verify_chain


def test_the_header_of_a_run_on_a_cluster_holds_what_its_workers_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "get_executor", lambda *_args, **_options: SequentialExecutor())
    tree = {
        "model": {"spec": "testbed:universal"},
        "data": {"languages": ["en"], "limit": 2},
        "generation": {"max_new_tokens": 4},
        "baseline_only": True,
        "transport": {"executor": "ray"},
    }
    run = RunDir.open(run_audit(prepare(parse_config(tree, where="test")), tmp_path / "run").path)
    checks = run.header["checks"]
    assert isinstance(checks, dict)
    assert checks["residual_leak"] == check_model(load_model("testbed:universal")).numbers()["residual_leak"]
    assert checks["inexact"] is None
    assert not verify_chain(run).problems
