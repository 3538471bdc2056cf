"""Runs `refusal-lens` commands in this process: what they print and exit with, without seven seconds of imports for each."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from subprocess import CompletedProcess

import pytest

from refusal_lens.cli.app import main


def run(*words: object) -> CompletedProcess[str]:
    """Run the console entry; an error that it does not handle comes out as an exception, where a process would show a traceback.

    Args:
        words: The command line after `refusal-lens`.

    Returns:
        Exit code and output.
    """
    told = ["refusal-lens", *map(str, words)]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", told)
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    assert code is None or isinstance(code, int), code
    return CompletedProcess(told, code or 0, out.getvalue(), err.getvalue())
