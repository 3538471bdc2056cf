"""Commands: preregister lock, preregister check, sign; `verify --key` of another file checks a signature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refusal_lens.cli.outputs import check_file
from refusal_lens.errors import GateFailed, RunError, UserError

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="run directory")]
HELP = """Lock a plan before a run (hypotheses, languages, n, nulls, claims), and hold the run against it afterwards.

Example: refusal-lens preregister lock plan.toml --out plan.lock
"""


def register(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    group = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)
    group.command("lock")(lock)
    group.command("check")(check)
    app.add_typer(group, name="preregister")
    app.command("sign")(sign_command)


def lock(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.toml", help="hypotheses, [audit] settings, [[claims]]")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="the lock")] = Path("plan.lock"),
) -> None:
    """Lock a plan: its content, the time, and a SHA-256 over both. Publish the digest before the run.

    Example: refusal-lens preregister lock plan.toml --out plan.lock
    """
    from refusal_lens.core.files import PUBLIC_FILE, write_atomic
    from refusal_lens.core.json_files import pretty_json
    from refusal_lens.seals import lock_plan

    check_file(out, "--out", reads=(plan,))
    if out.exists() or out.is_symlink():
        raise UserError(f"--out {out}: there is a lock already; a plan is locked once, name another file")
    content = lock_plan(plan)
    write_atomic(out, pretty_json(content), mode=PUBLIC_FILE)
    typer.echo(f"{out}: locked {content['locked_at']}, sha256 {content['sha256']}")


def check(
    run: RunArgument,
    plan: Annotated[Path, typer.Option("--plan", metavar="FILE", help="the lock")] = Path("plan.lock"),
) -> None:
    """Hold a run against its lock: what was kept, what deviates, how the claims ended. Exit 4 where anything deviates.

    A refuted claim is a result and no deviation.

    Example: refusal-lens preregister check runs/qwen --plan plan.lock
    """
    from refusal_lens.cli.plain import plain
    from refusal_lens.seals import check_plan

    found = check_plan(run, plan)
    for one in found:
        said = f"{one.outcome:<10} {one.what}{f': {one.detail}' if one.detail else ''}"
        typer.echo(plain(said, one_line=True))
    deviations = sum(one.outcome == "deviation" for one in found)
    if deviations:
        raise GateFailed(f"{deviations} of {len(found)} points deviate from {plan}")


def sign_command(
    run: RunArgument,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="secret Ed25519 key (PEM)")],
    make: Annotated[
        bool, typer.Option("--new-key", help="make the key first, and FILE's public part beside it")
    ] = False,
) -> None:
    """Sign a run with an Ed25519 key: RUN/signature.json. `refusal-lens verify RUN --key PUB` checks it.

    Example: refusal-lens sign runs/qwen --key me.pem --new-key
    """
    from refusal_lens.rundir import RunDir, verify_chain
    from refusal_lens.seals import new_key, sign

    problems = verify_chain(RunDir.open(run)).problems
    if problems:
        raise RunError(f"{run}: does not verify ({problems[0]}); a damaged run is not signed")
    if make:
        typer.echo(f"public key: {new_key(key)}")
    typer.echo(f"signed by {sign(run, key)}")
