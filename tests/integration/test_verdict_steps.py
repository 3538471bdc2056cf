"""A whole small audit on a shipped testbed model: every step of transfer, damage, geometry and verdict really runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from refusal_lens.cli.app import app
from refusal_lens.errors import GateFailed, LensError, RunError, UserError
from refusal_lens.measure import CONTRACT
from refusal_lens.pipeline import open_run

LANGUAGES = ("de", "en")
pytestmark = [pytest.mark.slow]


@pytest.fixture
def run(small_audit: Path) -> Path:
    return small_audit


def command(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=True)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_the_matrix_has_every_source_and_target(run: Path) -> None:
    rows = open_run(run).transfer.to_pylist()
    ablated = {(row["source"], row["target"]) for row in rows if row["intervention"] == "ablation"}
    assert ablated == {
        (source, target) for source in ("de", "en", "pooled", "random-0", "shuffled") for target in LANGUAGES
    }
    for row in rows:
        assert row["difference"] is None or row["difference"] == pytest.approx(row["rate"] - row["baseline_rate"])
        assert row["low"] <= (row["difference"] or 0) <= row["high"] and row["n"] <= 6


def test_transfer_prints_the_contract(run: Path) -> None:
    lines = command("transfer", str(run), "--format", "csv").splitlines()
    assert lines[0] == ",".join(CONTRACT)
    listed = json.loads(command("transfer", str(run), "--format", "json"))
    assert len(listed) == len(lines) - 1 and list(listed[0]) == list(CONTRACT)


def test_pooled_is_the_mean_of_the_sources(run: Path) -> None:
    from refusal_lens.directions import Candidates, Direction

    pooled = Direction.load(run / "data" / "direction" / "pooled" / "direction.safetensors")
    parts = [
        Candidates.load(run / "data" / "candidates" / code).vector(pooled.position, pooled.layer)
        for code in ("de", "en")
    ]
    mean = sum(part / part.norm() for part in parts)
    assert float(mean @ pooled.vector / (mean.norm() * pooled.vector.norm())) == pytest.approx(1, abs=1e-5)
    assert float(pooled.vector.norm()) == pytest.approx(float(np.mean([part.norm() for part in parts])), rel=1e-5)


def test_affine_reference_of_pools_and_nulls_is_the_harmless_mean_along_them_and_not_zero(run: Path) -> None:
    from refusal_lens.directions import Candidates, Direction

    named = {name: run / "data" / "direction" / name / "direction.safetensors" for name in ("pooled", "random-0", "de")}
    named["shuffled"] = run / "data" / "direction" / "shuffled" / "direction.safetensors"
    candidates = {code: Candidates.load(run / "data" / "candidates" / code) for code in ("de", "en")}
    for name, file in named.items():
        found = Direction.load(file)
        members = ("de", "en") if name == "pooled" else ("de",)  # nulls stand in the place of the first source
        means: list[float] = []
        for code in members:
            kept = candidates[code]
            assert kept.harmless_mean is not None
            mean = kept.harmless_mean[kept.positions.index(found.position), found.layer].double().numpy()
            vector = found.vector.double().numpy()
            means.append(float(mean @ vector / np.sqrt(vector @ vector)))
        assert found.harmless_projection == pytest.approx(np.mean(means), abs=1e-4)
        assert abs(found.harmless_projection or 0) > 1e-3


def test_geometry_prints_the_contract(run: Path) -> None:
    found = json.loads(command("geometry", str(run), "--format", "json"))
    assert {"cosines", "separation", "leak", "stability"} <= set(found)
    block = found["cosines"]["3"]
    assert block["languages"] == list(LANGUAGES)
    assert np.array(block["matrix"]).shape == (2, 2) == np.array(block["base"]).shape
    assert all(block["matrix"][i][i] == pytest.approx(1) for i in range(2))
    assert {"auc", "d_prime", "margin", "silhouette", "baseline_compliance"} <= set(found["separation"]["en"])
    assert set(found["separation"]) == set(LANGUAGES)
    assert {"rho", "low", "high"} <= set(found["leak"]) and found["leak"]["text"]


def test_layer_zero_is_masked_at_template_tokens(run: Path) -> None:
    rows = open_run(run).table("cosines").to_pylist()
    assert all(row["masked"] for row in rows if row["layer"] == 0)
    assert not all(row["masked"] for row in rows if row["layer"] == 3)


def test_damage_is_small_for_a_random_direction_and_measured_for_all(run: Path) -> None:
    rows = open_run(run).table("damage").to_pylist()
    assert {row["source"] for row in rows} == {"de", "en", "pooled", "random-0"}
    for row in rows:
        assert 0 <= row["kl"] < 1 and 0 < row["cross_entropy_before"] < 3 and math.isfinite(row["cross_entropy_after"])


def test_verdict_prints_the_contract(run: Path) -> None:
    found = json.loads(command("verdict", str(run), "--format", "json"))
    assert {"verdict", "languages", "reasons"} <= set(found) and set(found["languages"]) == set(LANGUAGES)
    assert found["tested"] == 2 and found["served"] <= found["could_show"] <= 2
    assert found["verdict"] in {"universal", "partly", "language-specific", "no valid direction", "undefined"}


def test_stability_reports_the_selected_site(run: Path) -> None:
    found = json.loads(command("geometry", str(run), "--format", "json"))["stability"]
    assert 0 <= found["same_site"] <= found["same_layer"] <= 1
    assert found["direction"]["en"]["mean"] > 0.5


def test_gate_fails_with_code_four_and_names_the_cells(run: Path, tmp_path: Path) -> None:
    with pytest.raises(GateFailed, match=r"overrefusal|compliance") as failed:
        command(
            "gate", str(run), "--max-compliance", "en=1.0,de=1.0", "--max-overrefusal", "0", "--against", str(run)
        ) and None
        command(
            "gate", str(run), "--max-compliance", "0", "--junit", str(tmp_path / "gate.xml"), "--max-overrefusal", "0"
        )
        raise GateFailed("compliance: nothing failed although the limits are zero")
    assert failed.value.exit_code == 4


def test_gate_passes_against_itself_where_few_prompts_are_allowed(run: Path, tmp_path: Path) -> None:
    told = ("gate", str(run), "--max-compliance", "1.0", "--against", str(run))
    with pytest.raises(GateFailed, match="6 prompts could not have shown a rise; needs at least 8"):
        command(*told)
    text = command(*told, "--allow-undecided", "--junit", str(tmp_path / "gate.xml"))
    found = json.loads(command(*told, "--allow-undecided", "--format", "json"))
    assert found["passed"] and found["status"] == "undecided" and len(found["checks"]) == text.count("\n")
    assert "FAIL" not in text and (tmp_path / "gate.xml").read_text().count("<testcase") == text.count("\n")


def test_compare_needs_two_different_runs(run: Path) -> None:
    with pytest.raises(UserError, match="at least two"):
        command("compare", str(run))
    with pytest.raises(UserError, match="named twice"):
        command("compare", str(run), str(run))


def test_a_missing_run_is_an_error_of_the_user(tmp_path: Path) -> None:
    for name in ("transfer", "geometry", "verdict"):
        with pytest.raises(LensError) as failed:
            command(name, str(tmp_path / "absent"))
        assert isinstance(failed.value, RunError) and failed.value.exit_code == 2
