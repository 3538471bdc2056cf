"""Making a model: train its recipe, save it, measure its gates. The shipped weights are this module's output.

A model continues a base: the one it is given, or its own recipe's, made first. Training reads the base as saved
(float16), so that a model can be remade from the shipped base alone. One thread, fixed seeds, steps and no clock.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from refusal_lens.errors import UserError
from refusal_lens.model import load_model
from refusal_lens_lab.gates import Gate, check
from refusal_lens_lab.network import build_network, build_tokenizer
from refusal_lens_lab.recipe import Design, Recipe, Schedule
from refusal_lens_lab.store import digest, load, save
from refusal_lens_lab.tasks import Examples
from refusal_lens_lab.training import train

logger = logging.getLogger(__name__)

RECIPE_FILE = "recipe.json"


@dataclass(frozen=True, slots=True)
class Made:
    """A finished model.

    Attributes:
        folder: Where it lies.
        digest: SHA-256 of what decides its behaviour.
        loss: Mean loss of the last 50 steps, nats per answer token.
        gates: Measured gates.
    """

    folder: Path
    digest: str
    loss: float
    gates: tuple[Gate, ...]

    @property
    def good(self) -> bool:
        """Whether every gate is passed."""
        return all(gate.passed for gate in self.gates)


def make(
    recipe: Recipe,
    *,
    out: Path,
    base: Path | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Made:
    """Trains one recipe and saves the model.

    Args:
        recipe: What to train.
        out: Folder of the model, created if missing.
        base: Folder of the base it continues; needed exactly when the recipe names one.
        progress: Called after each step with its number and loss.

    Returns:
        The model with its gates, passed or not.

    Raises:
        UserError: The recipe continues a base and none was given.
    """
    if recipe.base is not None and base is None:
        raise UserError(f"recipe {recipe.name} continues {recipe.base!r}: give the folder of that base")
    with _one_thread():
        torch.manual_seed(recipe.seed)
        if base is None:
            tokenizer = build_tokenizer(recipe.design.languages)
            network = build_network(tokenizer, width=recipe.design.width, depth=recipe.design.depth)
        else:
            network, tokenizer = load(base)
        examples = Examples(recipe.design, recipe.seed)
        draw = examples.base if recipe.stage == "base" else examples.align
        loss = train(network, tokenizer, draw=draw, schedule=recipe.schedule, progress=progress)
        save(network, tokenizer, folder=out)
        (out / RECIPE_FILE).write_text(
            json.dumps(asdict(recipe), ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
        )
        gates = tuple(check(load_model(str(out)), recipe))
    for gate in gates:
        logger.info("gate %s: %.3f (at least %.2f)", gate.task, gate.accuracy, gate.limit)
    return Made(folder=out, digest=digest(out), loss=loss, gates=gates)


def read_recipe(folder: Path) -> Recipe:
    """The recipe a model was made by.

    Args:
        folder: A folder written by `make`.

    Returns:
        Its recipe.

    Raises:
        UserError: The folder holds no recipe, or one of another version.
    """
    path = folder / RECIPE_FILE
    if not path.is_file():
        raise UserError(f"{folder} has no {RECIPE_FILE}: it was not made by `refusal-lens testbed train`")
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    design: dict[str, Any] = raw.pop("design")
    design |= {key: tuple(design[key]) for key in ("languages", "aligned")}
    try:
        return Recipe(design=Design(**design), schedule=Schedule(**raw.pop("schedule")), **raw)
    except TypeError as error:
        raise UserError(f"{path}: written by another version ({error}); train the model again") from None


@contextmanager
def _one_thread() -> Generator[None]:
    """One thread (the order of sums decides the last bit) and no denormal numbers (slow, and below float16 anyway)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
