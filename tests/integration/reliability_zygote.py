"""A process that has imported everything once and forks a fresh command for every request: real processes, quick to start.

Protocol: a JSON list of command-line words per line on stdin; `pid N` and later `end N CODE` on stdout. The children are
ordinary processes to kill, interrupt or limit; what they share with a cold start is everything but the import time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from functools import cache
from pathlib import Path


def run(words: list[str], log: Path) -> int:
    """Body of a child: one command, its output into the log."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["refusal-lens", *words]
    from refusal_lens.cli.app import main

    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:  # noqa: BLE001  the child must say what went wrong and end here, whatever it was
        traceback.print_exc()
        return 1
    return 0


def warm() -> None:
    """Import, compile and read what every command would: their own work is all that a child then does."""
    import typer.main

    # The tree of commands takes half a second to build; a killed child loses no buffer of the system and waits for no disk.
    typer.main.get_command = cache(typer.main.get_command)
    os.fsync = lambda _: None

    import transformers.models.qwen3.modeling_qwen3  # noqa: F401 (the testbed's models)

    import refusal_lens.cli.report
    import refusal_lens.model
    import refusal_lens.pipeline  # noqa: F401
    from refusal_lens.cli.app import app
    from refusal_lens.judging.patterns import load_lexicon, load_plain_refusals
    from refusal_lens.languages.template import english_name
    from refusal_lens.report import page
    from refusal_lens.testbed import load_prompts

    typer.main.get_command(app)
    english_name("en")
    for code in ("en", "de"):
        load_lexicon(code)
        load_plain_refusals(code)
        load_prompts(language=code, split="test", harm="harmful")
    # Made in another process: its threads would not outlive a fork here.
    script = subprocess.run(
        [sys.executable, "-c", "from refusal_lens.report.page import _bundle; print(_bundle(), end='')"],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    ).stdout
    page._bundle = lambda: script


def serve() -> None:
    """Warm up once, then fork on request."""
    warm()
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            code = run(request["words"], Path(request["log"]))
            sys.stdout.flush()
            os._exit(code)
        print(f"pid {child}", flush=True)  # noqa: T201
        _, status = os.waitpid(child, 0)
        print(f"end {child} {os.waitstatus_to_exitcode(status)}", flush=True)  # noqa: T201


if __name__ == "__main__":
    serve()
