"""A whole audit is killed, damaged, starved of disk and interrupted for real; its final tables come out byte-identical.

The commands are real processes forked from one warm interpreter (`reliability_zygote.py`), so that a kill costs a second and
not an import. `REFUSAL_LENS_KILLS` raises the number of kills for a longer campaign.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from reliability_tools import Zygote, count_finished, digests, records

KILLS = int(os.environ.get("REFUSAL_LENS_KILLS", "3"))
CONFIG = """
schema_version = 1
[model]
spec = "testbed:universal"
[data]
languages = ["en", "de"]
limit = 2
[directions]
n_train = 8
n_val = 4
random = 1
[generation]
max_new_tokens = 6
shard_size = 4  # two cells of two prompts are answered together
[geometry]
prompts_per_class = 6
bootstrap = 5
permutations = 5
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    zygote = Zygote(tmp_path_factory.mktemp("zygote"))
    yield zygote
    zygote.close()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "audit.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def reference(zygote: Zygote, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    run = tmp_path_factory.mktemp("reference") / "run"
    assert zygote.run("audit", "--config", config, "--out", run) in {0, 3}, zygote.output()
    assert len(digests(run)) > 20
    return run


@pytest.fixture
def finished(reference: Path, tmp_path: Path) -> Path:
    """A copy of the undisturbed run, to be damaged."""
    return Path(shutil.copytree(reference, tmp_path / "run"))


def moment(run: Path, dice: random.Random) -> Callable[[], bool]:
    """A moment for a kill: some tasks from now, and a little later. May fall anywhere, the start and the end included."""
    target = count_finished(run) + dice.randrange(12)
    delay = dice.uniform(0.0, 0.4)
    reached: list[float] = []

    def now() -> bool:
        if not reached and count_finished(run) >= target:
            reached.append(time.monotonic())
        return bool(reached) and time.monotonic() - reached[0] >= delay

    return now


def test_killed_at_random_moments_and_resumed_the_tables_are_the_same(
    zygote: Zygote, config: Path, reference: Path, tmp_path: Path
) -> None:
    dice = random.Random(7)
    run = tmp_path / "run"
    killed = lost = 0
    before: dict[str, tuple[str, str]] = {}
    for _ in range(KILLS):
        words = ("resume", run) if (run / "run.json").exists() else ("audit", "--config", config, "--out", run)
        code = zygote.run(*words, when=moment(run, dice))
        after = records(run) if run.exists() else {}
        lost += sum(after.get(name) != record for name, record in before.items())
        before = after
        assert code in {-signal.SIGKILL, 0, 3}, zygote.output()
        killed += code == -signal.SIGKILL
        assert zygote.run("verify", run) == 0 or not (run / "run.json").exists(), zygote.output()
    words = ("resume", run) if (run / "run.json").exists() else ("audit", "--config", config, "--out", run)
    assert zygote.run(*words) in {0, 3}, zygote.output()
    assert lost == 0
    assert killed >= min(KILLS, 2)
    assert digests(run) == digests(reference)
    assert zygote.run("verify", run) == 0, zygote.output()
    print(f"killed {killed} times, finished tasks lost: {lost}")  # noqa: T201  the figure for docs/reliability.md


def test_two_workers_killed_in_the_middle_lose_nothing(
    zygote: Zygote, config: Path, reference: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words: tuple[str | Path, ...] = ("audit", "--config", config, "--workers", "2", "--out", run)
    before: dict[str, tuple[str, str]] = {}
    for target in (12, 40) if KILLS > 3 else (30,):
        assert zygote.run(*words, when=lambda target=target: count_finished(run) >= target) == -signal.SIGKILL
        assert zygote.run("verify", run) == 0, zygote.output()
        after = records(run)
        assert len(after) >= target and before.items() <= after.items()
        before, words = after, ("resume", run, "--workers", "2")
    assert zygote.run(*words) in {0, 3}, zygote.output()
    assert before.items() <= records(run).items()
    assert digests(run) == digests(reference)
    assert zygote.run("verify", run) == 0, zygote.output()


def test_the_same_command_again_recomputes_nothing(
    zygote: Zygote, config: Path, finished: Path, reference: Path
) -> None:
    """Nor does a resume with another batch size: transport is not part of a key."""
    before = records(finished)
    assert zygote.run("resume", finished, "--batch-size", "3") in {0, 3}, zygote.output()
    assert records(finished) == before
    assert digests(finished) == digests(reference)


def test_damage_anywhere_is_named_set_aside_and_repaired(zygote: Zygote, finished: Path, reference: Path) -> None:
    dice = random.Random(11)
    files = sorted(
        path for folder in ("data", "tasks", "tables") for path in (finished / folder).rglob("*") if path.is_file()
    )
    figures = sorted((finished / "figures").iterdir())
    single = ("report.html", "rendered.json", "run.json", "plan.json", "published.json")  # run.json, not its copy too
    damaged = dice.sample(files, 8) + dice.sample(figures, 2) + [finished / name for name in single]
    for index, path in enumerate(damaged):
        content = bytearray(path.read_bytes())
        if index % 3 == 0 or not content:
            content = content[: len(content) // 2]
        else:
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        path.write_bytes(bytes(content))
    (finished / "data" / "verdicts" / "guest").mkdir()
    start = len(zygote.output())
    assert zygote.run("verify", finished) == 2
    said = zygote.output()[start:]
    for path in damaged[:-1]:  # a damaged list of tables shows in the tables
        assert path.stem in said, (path, said)
    assert "guest" in said
    assert zygote.run("resume", finished) in {0, 3}, zygote.output()
    assert digests(finished) == digests(reference)
    assert zygote.run("verify", finished) == 0, zygote.output()
    reasons = "".join(path.read_text() for path in (finished / "aside").glob("*/REASON"))
    for path in damaged:
        if path.parent.parent.parent == finished:
            assert path.parent.name in reasons or path.stem in reasons


def test_ctrl_c_finishes_the_shard_in_hand_and_says_how_to_go_on(
    zygote: Zygote, config: Path, reference: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    code = zygote.run(
        "audit", "--config", config, "--out", run, when=lambda: count_finished(run) > 6, how=signal.SIGINT
    )
    assert code == 130, zygote.output()
    assert f"refusal-lens resume {run}" in zygote.output()
    done = records(run)
    assert list((run / "tmp").glob("*")) == []
    assert zygote.run("resume", run) in {0, 3}, zygote.output()
    assert {name: records(run)[name] for name in done} == done
    assert digests(run) == digests(reference)


def test_two_processes_on_one_run(zygote: Zygote, finished: Path) -> None:
    held = f"with RunDir.open({str(finished)!r}).lock():\n print('held', flush=True)\n time.sleep(120)"
    script = f"import time\nfrom refusal_lens.rundir import RunDir\n{held}"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert zygote.run("resume", finished) == 2
        assert f"held by process {holder.pid} on" in zygote.output()
        holder.kill()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_and_a_read_only_one(zygote: Zygote, config: Path, reference: Path, small_disk: Path) -> None:
    run = small_disk / "run"
    start = len(zygote.output())
    assert zygote.run("audit", "--config", config, "--out", run) == 2
    said = zygote.output()[start:]
    assert "make room" in said and "Traceback" not in said
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    start = len(zygote.output())
    assert zygote.run("resume", run) == 2
    said = zygote.output()[start:]
    assert "read-only" in said and "Traceback" not in said
    subprocess.run(["mount", "-o", "remount,rw,size=64m", str(small_disk)], check=True)
    assert zygote.run("resume", run) in {0, 3}, zygote.output()
    assert digests(run) == digests(reference)


def test_completion_text_is_for_the_owner_alone_and_nowhere_else(zygote: Zygote, finished: Path) -> None:
    import pyarrow.parquet as pq

    texts: set[str] = set()
    for path in (finished / "data" / "completions").rglob("*.parquet"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        if path.name == "completions.parquet":  # beside it: how far the intervention acted, without text
            texts |= {row["text"] for row in pq.read_table(path).to_pylist() if len(row["text"]) > 12}
    assert texts
    public = [path for path in finished.rglob("*") if path.is_file() and "data" not in path.relative_to(finished).parts]
    for path in public:
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content = json.dumps(pq.read_table(path).to_pylist(), default=str, ensure_ascii=False).encode()
        for text in texts:
            assert text.encode() not in content, path
    assert not any(text in zygote.output() for text in texts)


def test_scrubbed_runs_verify_and_resume_without_computing_anything(
    zygote: Zygote, finished: Path, reference: Path
) -> None:
    before = records(finished)
    assert zygote.run("scrub", finished) == 0, zygote.output()
    assert zygote.run("verify", finished) == 0, zygote.output()
    assert zygote.run("resume", finished) in {0, 3}, zygote.output()
    assert list((finished / "data" / "completions").rglob("*.parquet")) == []
    assert records(finished) == before
    assert digests(finished) == digests(reference)
