"""One call for a whole audit from Python; the command line's `audit` does the same with a progress bar."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from refusal_lens.config import AuditConfig, DataConfig, DirectionConfig, GenerationConfig, ModelConfig, Transport
from refusal_lens.languages import resolve_languages
from refusal_lens.pipeline import Run, open_run, prepare, run_audit
from refusal_lens.types import Rule


def audit(
    model: str,
    *,
    out: str | Path,
    data: str | Path | None = None,
    languages: str | Sequence[str] = "all",
    sources: str | Sequence[str] = ("en",),
    limit: int | None = None,
    max_new_tokens: int | None = None,
    rule: Rule = "paper",
    random: int = 3,
    judge: str = "native",
    seed: int = 0,
    device: str = "auto",
    replace: bool = False,
) -> Run:
    """Audit a chat model and return its tables; for every further setting use `AuditConfig` with `prepare` and `run_audit`.

    Args:
        model: testbed:NAME, a model folder, or a hub id.
        out: Run directory; a second call with the same arguments recomputes nothing.
        data: Folder with the PolyRefuse files; a testbed brings its own prompts.
        languages: Target languages.
        sources: Languages to take directions from.
        limit: Test prompts per language and class; None for all.
        max_new_tokens: Length limit of an answer in tokens; None for 512 (48 on a testbed's own prompts).
        rule: Selection rule.
        random: Number of random null directions.
        judge: Name of the judge.
        seed: Seed of sampling and null directions.
        device: Where the model runs.
        replace: Take over `out` although another model's run stands there.

    Returns:
        The finished run.

    Raises:
        UserError: Something about the model, the prompts, the languages or the run directory is wrong.
    """
    tokens = max_new_tokens or (48 if model.startswith("testbed:") and data is None else 512)
    config = AuditConfig(
        model=ModelConfig(spec=model),
        data=DataConfig(root=None if data is None else str(data), languages=_codes(languages), limit=limit),
        directions=DirectionConfig(sources=_codes(sources), rule=rule, random=random),
        generation=GenerationConfig(max_new_tokens=tokens),
        judge=judge,
        seed=seed,
        transport=Transport(device=device),
    )
    asked = () if languages == "all" else ("languages",)
    result = run_audit(prepare(config, asked=asked), Path(out), replace=replace)
    return open_run(result.path)


def _codes(languages: str | Sequence[str]) -> tuple[str, ...]:
    return resolve_languages(languages if isinstance(languages, str) else ",".join(languages))
