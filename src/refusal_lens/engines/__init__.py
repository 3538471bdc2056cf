"""The engines room: engines made for serving that answer in place of transformers.

vLLM itself is imported only when one is started.
"""

from __future__ import annotations

import logging

from refusal_lens.engines.proof import is_installed, require_installed, why_not_read
from refusal_lens.engines.vllm_engine import VllmEngine
from refusal_lens.errors import ModelError, UserError
from refusal_lens.model import Engine, LensModel

__all__ = ["VllmEngine", "check_asked", "is_installed", "serving"]

log = logging.getLogger(__name__)

_STARTED: dict[LensModel, VllmEngine | None] = {}


def check_asked(engine: Engine, *, here: bool) -> None:
    """Refuse what cannot be had, before anything is loaded or written.

    Args:
        engine: What was asked for.
        here: Answers are written on this machine, so that vLLM has to be installed on it.

    Raises:
        UserError: Two options contradict each other.
        ModelError: vLLM was asked for by name and is not installed.
    """
    if engine.name == "vllm" and engine.plain:
        raise UserError("--plain is a loop of transformers, --engine vllm another engine: leave one of them out")
    if engine.tensor_parallel > 1 and (engine.plain or engine.name == "hf"):
        told = "--plain" if engine.plain else "--engine hf"
        raise UserError(f"--tensor-parallel spreads a model that vLLM runs, and {told} does not use vLLM: leave it out")
    if engine.name == "vllm" and here:
        require_installed()


def serving(model: LensModel, engine: Engine) -> VllmEngine | None:
    """The engine that answers in place of transformers, started once per model and process.

    Args:
        model: The model.
        engine: What was asked for; "auto" takes vLLM where it is installed, the model is on a GPU and vLLM reads its files.

    Returns:
        The engine; None where transformers answers.

    Raises:
        ModelError: vLLM was asked for by name and is not installed, or cannot run this model.
    """
    if engine.name == "hf" or engine.plain:
        return None
    if engine.name == "auto" and not (is_installed() and model.device.type == "cuda" and why_not_read(model) is None):
        return None
    if model not in _STARTED:
        try:
            _STARTED[model] = VllmEngine(model, tensor_parallel=engine.tensor_parallel)
        except ModelError as error:
            if engine.name != "auto":
                raise
            log.warning("%s", error)
            _STARTED[model] = None
    return _STARTED[model]
