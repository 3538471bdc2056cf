"""Setting files aside: out of the way, never deleted, with the reason beside them."""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime
from pathlib import Path

from refusal_lens.core.files import PRIVATE_FOLDER, make_folder, storage_refusals

_LOG = logging.getLogger(__name__)


def move_aside(root: Path, paths: list[Path], reason: str) -> Path:
    """Move files or folders of a run into `aside/<time>-<random>/`, keeping their place in the run.

    Args:
        root: The run.
        paths: What to move; what is gone already is skipped.
        reason: One line, written to `REASON` and logged.

    Returns:
        The new folder.

    Raises:
        StorageError: The storage refuses.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    target = root / "aside" / f"{stamp}-{secrets.token_hex(3)}"
    with storage_refusals(target):
        make_folder(target.parent, mode=PRIVATE_FOLDER)
        target.mkdir(mode=PRIVATE_FOLDER)
        for path in paths:
            place = target / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.rename(place)
            except FileNotFoundError:
                continue
        (target / "REASON").write_text(f"{reason}\n", encoding="utf-8", errors="replace")
    _LOG.warning("set aside in %s: %s", target.relative_to(root), reason)
    return target
