"""Fixtures for every test: one thread per process, and the shared data that only some machines have."""

from __future__ import annotations

import importlib
import os
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# What a shell or a CI sets for its user changes what commands print, write or ask: the tests begin without it.
for _variable in (
    *("FORCE_COLOR", "CLICOLOR_FORCE", "NO_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
    *("SOURCE_DATE_EPOCH", "REFUSAL_LENS_LANGUAGES", "REFUSAL_LENS_ADMIN_TOKEN"),
    *("REFUSAL_LENS_API_KEY", "REFUSAL_LENS_MODEL_API_KEY"),
):
    os.environ.pop(_variable, None)

# The same examples every time, however busy the machine; `--hypothesis-profile=default` looks further.
settings.register_profile(
    "suite", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

HEAVY = ("torch", "transformers.modeling_utils", "transformers.generation", "sklearn.linear_model", "scipy.stats")
"""Imported here and not by a module whose types are checked while it runs: whatever such a module imports for the first time
is compiled anew in every process, half a minute of transformers."""
TOGETHER = {"test_docs_python.py": "small audit", "test_verdict_steps.py": "small audit"}
"""Files that share a fixture of the session and so go to one process."""

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Import what is heavy, but not in a process that only hands tests to others; do not wait for the disk."""
    import typer.main

    # The tree of all commands takes a tenth of a second to build, for every command that a test gives.
    typer.main.get_command = cache(typer.main.get_command)
    os.fsync = lambda _: None  # tests kill processes, which lose no buffer of the system, and never the machine
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        for library in HEAVY:
            importlib.import_module(library)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Under `--dist loadfile` a file's tests run in one process, which makes its fixtures once; the order is that of the files.

    Marks of xdist groups are no way to this: with pytest 9.2 they have no effect, and every process made every fixture.
    """
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return TOGETHER.get(Path(file).name, file)

    return ByFile(config, log)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with PolyRefuse, the paper's numbers and the reference runs; the test skips where it is absent."""
    folder = Path(os.environ.get("REFUSAL_LENS_SHARED") or REPOSITORY.parent / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the shared data: no folder {folder / 'data'} (name it in REFUSAL_LENS_SHARED)")
    return folder


@pytest.fixture(scope="session")
def small_audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished audit of a shipped model, two languages and sources, a base model: one for all who only read it.

    Their files stand in `TOGETHER`, so that one process makes it.
    """
    from refusal_lens.config import AuditConfig
    from refusal_lens.pipeline import prepare, run_audit

    settings = AuditConfig.model_validate(
        {
            "model": {"spec": "testbed:universal"},
            "data": {"languages": ("de", "en"), "limit": 6},
            "directions": {"sources": ("de", "en"), "n_train": 16, "n_val": 8, "random": 1},
            "generation": {"max_new_tokens": 8},
            "geometry": {"prompts_per_class": 8, "bootstrap": 20, "permutations": 20, "base": "testbed:base"},
        }
    )
    out = tmp_path_factory.mktemp("runs") / "small"
    run_audit(prepare(settings), out)
    return out
