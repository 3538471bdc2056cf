"""Plans locked before a run and held against it; runs signed and verified, through the real commands."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner, Result

from refusal_lens.cli.app import app
from refusal_lens.core.digests import canonical_json, digest_json
from refusal_lens.core.tables import RATES
from refusal_lens.errors import DataError, GateFailed, LensError, UserError
from refusal_lens.rundir import RunDir, write_plan
from refusal_lens.seals import check_plan, lock_plan, read_lock
from refusal_lens.types import Task
from report_runs import make_run

PLAN = """
hypotheses = ["Yoruba leaks; English does not."]
[audit]
seed = 0
[audit.data]
languages = ["yo", "en"]
limit = 100
[audit.directions]
sources = ["en"]
random = 3
"""
CLAIMS = """
[[claims]]
language = "yo"
above = 0.5
[[claims]]
language = "yo"
below = 0.2
[[claims]]
language = "en"
above = 0.05
[[claims]]
language = "ko"
below = 0.5
"""


def lens(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run whose task finished now, with the tables of a real one."""
    made = make_run(tmp_path / "run", languages=("en", "yo"), n=100, n_layers=2)
    task = Task("probe", 1, "one")
    with made.writing(task) as folder:
        (folder / "out.txt").write_text("measured")
    write_plan(made, [task])
    return made


def locked(tmp_path: Path, text: str, *, age: timedelta = timedelta(hours=1)) -> Path:
    """A lock as the command writes it, made an hour ago."""
    (tmp_path / "plan.toml").write_text(text)
    body = lock_plan(tmp_path / "plan.toml")
    del body["sha256"]
    body["locked_at"] = (datetime.now(UTC) - age).isoformat(timespec="seconds")
    place = tmp_path / "plan.lock"
    place.write_text(json.dumps({**body, "sha256": digest_json(body)}))
    return place


def test_a_run_that_did_what_was_planned_has_no_deviation(run: RunDir, tmp_path: Path) -> None:
    found = check_plan(run.root, locked(tmp_path, PLAN))
    assert {one.outcome for one in found} == {"kept"}, found
    assert {one.what for one in found} == {
        "locked before the run", "seed", "data.languages", "data.limit", "directions.sources", "directions.random",
        "languages measured", "100 prompts a cell", "3 random directions",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("random = 3", "random = 5", "directions.random"),
        ('languages = ["yo", "en"]', 'languages = ["yo", "en", "ko"]', "data.languages"),
        ('languages = ["yo", "en"]', 'languages = ["yo", "en", "ko"]', "languages measured"),
        ("limit = 100", "limit = 101", "101 prompts a cell"),
        ("limit = 100", 'limit = "all"', "data.limit"),
        ("seed = 0", "seed = 7", "seed"),
    ],
)
def test_what_was_done_otherwise_is_a_deviation(run: RunDir, tmp_path: Path, old: str, new: str, what: str) -> None:
    found = {one.what: one.outcome for one in check_plan(run.root, locked(tmp_path, PLAN.replace(old, new)))}
    assert found[what] == "deviation"
    result = lens("preregister", "check", run.root, "--plan", tmp_path / "plan.lock")
    assert isinstance(result.exception, GateFailed)
    assert result.exception.exit_code == 4


def test_a_lock_made_after_the_first_result_is_a_deviation(run: RunDir, tmp_path: Path) -> None:
    late = locked(tmp_path, PLAN, age=timedelta(hours=-1))
    assert check_plan(run.root, late)[0].outcome == "deviation"


def test_claims_end_by_the_interval_and_a_refuted_one_is_no_deviation(run: RunDir, tmp_path: Path) -> None:
    """Yoruba is made at 88 %, English at about 6 % of 97: the latter's interval holds 0.05."""
    place = locked(tmp_path, PLAN + CLAIMS)
    outcomes = [one.outcome for one in check_plan(run.root, place)][-4:]
    rows = RATES.read(run.tables_dir / "rates.parquet")
    english = next(r for r in rows if (r["intervention"], r["language"], r["prompts"]) == ("baseline", "en", "harmful"))
    assert english["low"] < 0.05 < english["high"]
    assert outcomes == ["supported", "refuted", "undecided", "undecided"]
    assert lens("preregister", "check", run.root, "--plan", place).exit_code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PLAN.replace('hypotheses = ["Yoruba leaks; English does not."]', ""), "names no hypothesis"),
        (PLAN.replace("random = 3", ""), "does not say directions.random"),
        (PLAN.replace("limit = 100", ""), "does not say data.limit"),
        (PLAN + "\n[other]\nx = 1\n", "unknown other"),
        (PLAN + '\n[[claims]]\nlanguage = "yo"\n', "either below or above"),
        (PLAN + '\n[[claims]]\nlanguage = "yo"\nbelow = 20\n', r"a share in \[0, 1\]"),
    ],
)
def test_half_a_plan_is_not_locked(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(UserError, match=said):
        lock_plan(tmp_path / "plan.toml")


def test_a_changed_lock_is_refused_and_a_lock_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    place = tmp_path / "plan.lock"
    done = lens("preregister", "lock", tmp_path / "plan.toml", "--out", place)
    assert done.exit_code == 0
    assert str(read_lock(place)["sha256"]) in done.output
    assert isinstance(lens("preregister", "lock", tmp_path / "plan.toml", "--out", place).exception, UserError)
    place.write_text(place.read_text().replace("English does not", "English does too"))
    with pytest.raises(DataError, match="altered after it was locked"):
        read_lock(place)


@pytest.fixture
def signed(run: RunDir, tmp_path: Path) -> RunDir:
    """The same run without its unpublished tables, signed."""
    shutil.rmtree(run.tables_dir)
    run.tables_dir.mkdir()
    result = lens("sign", run.root, "--key", tmp_path / "me.pem", "--new-key")
    assert result.exit_code == 0, (result.output, result.exception)
    return run


def test_a_signed_run_verifies_with_its_key_and_with_no_other(signed: RunDir, tmp_path: Path) -> None:
    public = tmp_path / "me.pub.pem"
    assert (tmp_path / "me.pem").stat().st_mode & 0o077 == 0
    assert "signed by this key" in lens("verify", signed.root, "--key", public).output
    assert lens("verify", signed.root).exit_code == 0
    lens("sign", signed.root, "--key", tmp_path / "other.pem", "--new-key")
    result = lens("verify", signed.root, "--key", public)
    assert result.exit_code == 2
    assert "is not by this key" in result.output


def test_the_signature_is_plain_ed25519_over_the_manifest(signed: RunDir, tmp_path: Path) -> None:
    """Checked with the library alone, without our code for it."""
    import base64

    content = json.loads((signed.root / "signature.json").read_text())
    public = serialization.load_pem_public_key((tmp_path / "me.pub.pem").read_bytes())
    public.verify(base64.b64decode(content["signature"]), canonical_json(content["manifest"]))
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(content["signature"]), canonical_json({**content["manifest"], "x": None}))


@pytest.mark.parametrize("what", ["recomputed", "added", "removed", "header", "edited"])
def test_a_run_that_changed_after_signing_is_named(signed: RunDir, tmp_path: Path, what: str) -> None:
    if what == "recomputed":
        with signed.writing(Task("probe", 1, "one", {"again": True})) as folder:
            (folder / "out.txt").write_text("something else")
        write_plan(signed, [Task("probe", 1, "one", {"again": True})])
    elif what == "added":
        with signed.writing(Task("probe", 1, "two")) as folder:
            (folder / "out.txt").write_text("more")
    elif what == "removed":
        signed.record_path("probe/one").unlink()
    elif what == "header":
        RunDir.create(signed.root, header={**signed.header, "judge": "another"})
    else:
        place = signed.root / "signature.json"
        place.write_text(place.read_text().replace("tasks/probe/one", "tasks/probe/0ne"))
    result = lens("verify", signed.root, "--key", tmp_path / "me.pub.pem")
    assert result.exit_code == 2
    said = {"recomputed": "tasks/probe/one: is not what was signed", "added": "tasks/probe/two: is not covered",
            "removed": "tasks/probe/one: was signed and is missing", "header": "run.json: is not what was signed",
            "edited": "is not by this key"}  # fmt: skip
    assert said[what] in result.output


def test_a_report_built_again_leaves_the_signature_valid(signed: RunDir, tmp_path: Path) -> None:
    signed.render({"report.html": b"<p>drawn again"})
    assert lens("verify", signed.root, "--key", tmp_path / "me.pub.pem").exit_code == 0


def test_an_unsigned_run_and_a_wrong_key_file_are_said(run: RunDir, tmp_path: Path) -> None:
    shutil.rmtree(run.tables_dir)
    (tmp_path / "x.pem").write_text("no key")
    for words in (("verify", run.root, "--key", tmp_path / "x.pem"), ("sign", run.root, "--key", tmp_path / "x.pem")):
        result = lens(*words)
        assert isinstance(result.exception, LensError), result.output
        assert result.exception.exit_code == 2
