"""Command `monitor serve`: the example server, in front of a model here or of an endpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from refusal_lens.cli.outputs import check_file
from refusal_lens.errors import UserError

TOKEN = "REFUSAL_LENS_ADMIN_TOKEN"


def register(group: typer.Typer) -> None:
    """Add this module's command to the group."""
    group.command("serve")(serve)


def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="folder that `monitor fit` wrote")],
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="the monitor's model; it answers too, without --upstream")
    ],
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="OpenAI-compatible endpoint that answers, e.g. http://host/v1")
    ] = None,
    upstream_model: Annotated[str | None, typer.Option(metavar="NAME", help="the model's name there")] = None,
    gate: Annotated[bool, typer.Option("--gate/--no-gate", help="refuse what is flagged, or only note it")] = True,
    refusal: Annotated[str | None, typer.Option(metavar="TEXT", help="what a flagged request is told")] = None,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="decision log, JSON Lines, without any text of the prompts")
    ] = None,
    kill_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="while this file exists every request is answered with 503")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="longest answer of MODEL")] = 256,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="port to listen on")] = 8000,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16")] = "auto",
) -> None:
    """Serve chat completions behind a monitor: an example to start from, needs the extra `serve`.

    Example: refusal-lens monitor serve monitor testbed:aligned --log decisions.jsonl --kill-file STOP

    POST /v1/chat/completions (streaming too), GET /health (drift by language), POST /admin/stop and /admin/start with the
    bearer token in REFUSAL_LENS_ADMIN_TOKEN.
    """
    if (upstream is None) != (upstream_model is None):
        raise UserError("--upstream URL and --upstream-model NAME go together")
    if log is not None:
        check_file(log, "--log")
    try:
        import uvicorn

        from refusal_lens.serve import Guard, Local, Settings, Upstream, create_app
        from refusal_lens.serve.guard import REFUSAL
    except ImportError as error:
        raise UserError(
            f"the server needs FastAPI ({error.name} is missing): pip install 'refusal-lens[serve]'"
        ) from None
    from refusal_lens.cli.monitor_data import load_watched
    from refusal_lens.monitor import Monitor

    monitor = Monitor.load(folder)
    loaded = load_watched(monitor, model, device=device, dtype=dtype)
    settings = Settings(refusal or REFUSAL, gate, log, kill_file, os.environ.get(TOKEN) or None)
    guard = Guard(monitor, loaded, settings)
    if upstream is not None and upstream_model is not None:
        backend = Upstream(upstream, upstream_model)
    else:
        backend = Local(loaded, guard.lock, max_new_tokens)
    uvicorn.run(create_app(guard, backend), host=host, port=port, log_level="warning")
