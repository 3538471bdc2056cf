"""The error family and the documented exit codes.

Every error a user can cause says what is wrong, which value, and what to do. The command line prints it in one line
and exits with the class's code; anything else is a defect of ours and shows a traceback (exit code 1).
"""

from __future__ import annotations

from typing import ClassVar

EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_USER = 2
EXIT_NO_DIRECTION = 3
EXIT_GATE = 4
EXIT_INTERRUPTED = 130


class LensError(Exception):
    """Base of all errors RefusalLens raises on purpose."""

    exit_code: ClassVar[int] = EXIT_UNEXPECTED


class UserError(LensError):
    """The user's input is wrong: a path, an option, a file's content."""

    exit_code = EXIT_USER


class DataError(UserError):
    """A prompt, answer or label file cannot be used as it is."""


class MissingCell(DataError):
    """A prompt set has no file for this language, split and class: reported by name and skipped, unlike a broken file."""


class ModelError(UserError):
    """A model cannot be loaded, or lacks what an audit needs (weights, tokenizer, chat template)."""


class EndpointError(UserError):
    """An endpoint gave no reply: down, too slow, or refusing the key. Nothing is said about what was asked; ask again."""


class RunError(UserError):
    """A run directory cannot be used: missing, foreign, held by another process, or damaged beyond recomputing."""


class NoValidDirection(LensError):
    """Selection left no candidate; the message says which filter dropped how many."""

    exit_code = EXIT_NO_DIRECTION


class GateFailed(LensError):
    """A gate's limits were exceeded; the message names the failing cells."""

    exit_code = EXIT_GATE


class ExecutionError(LensError):
    """Some tasks of a run failed after their retries; the rest is complete and the run can be resumed."""
