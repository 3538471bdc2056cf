"""What an audit would cost, in lines for a reader: the plan's counts, priced by `directions.estimate` on the loaded model."""

from __future__ import annotations

from refusal_lens.directions import Workload, calibrate, estimate, shape_of
from refusal_lens.model import LensModel
from refusal_lens.pipeline.audit import Prepared
from refusal_lens.pipeline.dataset import all_languages
from refusal_lens.pipeline.worker import load_audited
from refusal_lens.types import Task


def cost_of(prepared: Prepared) -> list[str]:
    """Price a planned audit, as if nothing of it were computed yet. Loads the model and times a small sample.

    Args:
        prepared: A planned audit.

    Returns:
        Lines with forward passes, tokens, memory and time.

    Raises:
        ModelError: The model cannot be loaded.
    """
    model = load_audited(prepared.config)
    found = estimate(_workload(prepared, model), shape_of(model), speed=calibrate(model))
    assert found.seconds is not None
    return [
        f"forward passes: {found.forward_passes:,} (prompts through the model, candidates of the sweep counted one by one)",
        f"tokens: {found.tokens:,} at most",
        f"memory: about {found.memory_bytes / 2**30:.2f} GiB for weights and the largest batch",
        f"time: at most about {_duration(found.seconds)} with one worker on this machine (tells a minute from a day)",
    ]


def _workload(prepared: Prepared, model: LensModel) -> Workload:
    config = prepared.config
    choice = config.directions
    languages = len(all_languages(config))
    sample = [prompt.text for part in prepared.dataset.parts.values() for prompt in part[:8]]
    rendered = model.render(sample)
    return Workload(
        languages=languages,
        sources=len(choice.sources),
        n_train=choice.n_train,
        n_val=choice.n_val,
        answers=sum(_answers(prepared, task) for task in prepared.tasks if task.step == "completions"),
        prompt_tokens=sum(map(len, rendered)) / len(rendered),
        max_new_tokens=config.generation.max_new_tokens,
        sweep="race" if choice.mode == "race" else "exact" if choice.full_sweep else "pruned",
        geometry_prompts=2 * languages * config.geometry.prompts_per_class if config.geometry.enabled else 0,
    )


def _answers(prepared: Prepared, task: Task) -> int:
    cells, first, size = task.params["cells"], task.params["first"], task.params["size"]
    assert isinstance(cells, list) and isinstance(first, int) and isinstance(size, int)
    sources = cells[1]
    assert isinstance(sources, list)
    part = prepared.dataset.parts[task.inputs[0].removeprefix("prompts/")]
    return len(sources) * min(size, sum(prompt.harm == cells[3] for prompt in part) - first)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
