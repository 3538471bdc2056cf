"""Fixtures for every test: one thread per process, and the shared data that only some machines have."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Imported here and not by a module whose types are checked while it runs: whatever such a module imports for the first time
# is compiled anew in every process, half a minute of transformers.
for _library in (
    "torch",
    "transformers.modeling_utils",
    "transformers.generation",
    "sklearn.linear_model",
    "scipy.stats",
):
    importlib.import_module(_library)

REPOSITORY = Path(__file__).resolve().parents[1]


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

    They stand in the xdist group "small audit", so that one process makes it.
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
