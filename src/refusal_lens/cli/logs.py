"""Where log lines of an audit go: to stderr from a level on, and all of them to `RUN/audit.log`, with the time.

The file is written from the moment that the run directory exists, what was said before included; a run that never comes to
exist gets none. It holds task names, warnings and errors, no text of any answer, and what looks like a secret is masked.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

LOG = "audit.log"


class RunLog(logging.Handler):
    """Appends lines to a run's log, once the run is there."""

    def __init__(self, run: Path) -> None:
        """Take the run directory, which need not exist yet."""
        super().__init__(logging.INFO)
        self._run = run
        self._waiting: list[str] = []
        self.held = (run / "run.json").exists()
        """A run that is there already is another audit's until this one may go on from it: see `release`."""
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line, and write what is kept where the run is there."""
        from refusal_lens.core.redact import redact_text

        self._waiting.append(redact_text(self.format(record)))
        self.flush()

    def flush(self) -> None:
        """Write what is kept; a log that cannot be written stops no audit."""
        if self.held or not self._waiting or not (self._run / "run.json").exists():
            return
        with suppress(OSError):
            descriptor = os.open(self._run / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "a", encoding="utf-8", errors="replace") as stream:
                stream.write("".join(f"{line}\n" for line in self._waiting))
            self._waiting.clear()


def release() -> None:
    """Let the logs of this process write into runs that were there before: the audit may go on from them."""
    for handler in logging.getLogger("refusal_lens").handlers:
        if isinstance(handler, RunLog):
            handler.held = False
            handler.flush()


@contextmanager
def logging_to(run: Path | None, *, stderr: int) -> Generator[Callable[[str], None]]:
    """Send this package's log lines to stderr and to a run's log.

    Args:
        run: Run directory; None for stderr alone.
        stderr: Level from which on lines reach stderr.

    Yields:
        A function that writes one line into the run's log alone.
    """
    logger, before = logging.getLogger("refusal_lens"), logging.getLogger("refusal_lens").level
    shown = logging.StreamHandler(sys.stderr)
    shown.setLevel(stderr)
    handlers: list[logging.Handler] = [shown]
    log = None if run is None else RunLog(run)
    if log is not None:
        handlers.append(log)
        log.handle(logger.makeRecord(logger.name, logging.INFO, "", 0, shlex.join(sys.argv), (), None))
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    def note(line: str) -> None:
        if log is not None:
            log.handle(logger.makeRecord(logger.name, logging.INFO, "", 0, line, (), None))

    try:
        yield note
    except BaseException as error:
        note(f"ended by {type(error).__name__}: {error}")
        raise
    finally:
        logger.setLevel(before)
        for handler in handlers:
            handler.flush()
            logger.removeHandler(handler)
