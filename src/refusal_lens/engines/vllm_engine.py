"""vLLM as a second engine for generation: same greedy answers, an engine made for serving (extra `vllm`).

The model object of transformers stays: it renders prompts, knows the end tokens, and does everything that is not
generation. vLLM reads the same files once more and answers.

1. One exact ablation or one addition is folded into the weights inside vLLM's workers, never on disk; anything else stays
   on transformers, and `why_not` says why.
2. After each fold it is measured how much of the direction is left before the head; above the limit nothing is answered.
3. Before an engine is used for the first time under each kind of change, some of its tokens are compared with what
   transformers holds likely: each must be its first choice, within rounding.
4. The prefix cache is emptied whenever the weights change, and the same numbers are put back afterwards.

Not here: adapters, GGUF, quantised weights, models that vLLM does not lay out like Llama, several machines.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from refusal_lens.engines.proof import require_agreement, require_gone, require_installed, why_not_folded, why_not_read
from refusal_lens.errors import ModelError
from refusal_lens.interventions import Ablation, Addition
from refusal_lens.model import PROBES, Generated, Intervention, LensModel
from refusal_lens.model.answers import ASK_EVERY, Watch
from refusal_lens.model.source import locate_source
from refusal_lens.model.thoughts import decode_answer, opens_thoughts

WORKER = "refusal_lens.engines.vllm_worker.FoldingWorker"
LONGEST = 16384
"""Most tokens of prompt and answer that the engine reserves room for."""

COMPARED_TOKENS = 8

log = logging.getLogger(__name__)

_SETTINGS = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
_CPU_SETTINGS = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


class VllmEngine:
    """Answers of one model by vLLM; `close` gives its memory back.

    Attributes:
        name: Engine and version, for a run's record.
    """

    def __init__(self, model: LensModel, *, tensor_parallel: int = 1, compiled: bool | None = None) -> None:
        """Start vLLM on the model's files.

        Args:
            model: The model, loaded by transformers; its files are read again.
            tensor_parallel: Devices (processes on a CPU) that share the weights.
            compiled: Let vLLM compile the step; None: on an accelerator only, since it takes a minute.

        Raises:
            ModelError: vLLM is not installed, or cannot run this model.
        """
        require_installed()
        self._model = model
        reason = why_not_read(model)
        if reason is not None:
            raise ModelError(f"--engine vllm cannot run {model.provenance.spec}: {reason}; use --engine hf")
        cpu = model.device.type == "cpu"
        for key, value in (_SETTINGS | (_CPU_SETTINGS if cpu else {})).items():
            os.environ.setdefault(key, value)
        vllm = importlib.import_module("vllm")
        threads = torch.get_num_threads()
        self._sampling: Callable[..., object] = vllm.SamplingParams
        self._prompt: Callable[..., object] = importlib.import_module("vllm.inputs").TokensPrompt
        self._delta: object = importlib.import_module("vllm.sampling_params").RequestOutputKind.DELTA
        self._longest = min(model.context or LONGEST, LONGEST)
        try:
            self._llm: Any = vllm.LLM(
                model=str(locate_source(model.provenance.spec, revision=model.provenance.revision).folder),
                dtype=model.provenance.dtype,
                max_model_len=self._longest,
                seed=0,
                enforce_eager=cpu if compiled is None else not compiled,
                skip_tokenizer_init=True,
                worker_cls=WORKER,
                generation_config="vllm",
                disable_log_stats=True,
                tensor_parallel_size=tensor_parallel,
            )
        except Exception as error:  # vLLM raises many kinds; all mean that it cannot run this model here
            raise ModelError(f"vLLM cannot run {model.provenance.spec} here: {error}; use --engine hf") from error
        torch.set_num_threads(threads)
        self.name = f"vllm {importlib.metadata.version(_package())}"
        self._digests = self._rpc("digest")
        self._not_folded = why_not_folded(model, self._rpc("describe"))
        self._compared: set[type] = set()
        self._said: set[str] = set()
        self._next = 0

    def why_not(self, interventions: Sequence[Intervention]) -> str | None:
        """Why answers under these interventions stay on transformers; None where vLLM can write them.

        Args:
            interventions: Those of a call of `generate`.

        Returns:
            The reason, one clause.
        """
        if not interventions:
            return None
        if len(interventions) > 1:
            return "several interventions at once"
        (change,) = interventions
        if isinstance(change, Ablation) and change.fold_direction() is None:
            return "only one exact ablation towards zero can be folded"
        if isinstance(change, Addition) and change.direction.ndim > 1:
            return "a direction for each row cannot be folded"
        if not isinstance(change, Ablation | Addition):
            return f"{type(change).__name__} cannot be folded"
        return self._not_folded

    def takes(self, interventions: Sequence[Intervention]) -> bool:
        """Whether vLLM answers under these interventions; says in the log, once, why not.

        Args:
            interventions: Those of a call of `generate`.

        Returns:
            False where they stay on transformers.
        """
        reason = self.why_not(interventions)
        if reason is not None and reason not in self._said:
            self._said.add(reason)
            log.warning("answers under %s stay on transformers: %s", type(interventions[0]).__name__.lower(), reason)
        return reason is None

    def generate(
        self,
        instructions: Sequence[str],
        *,
        max_new_tokens: int = 512,
        interventions: Sequence[Intervention] = (),
        stop_when: Callable[[int, str], bool] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Generated]:
        """Answer every instruction greedily, as `refusal_lens.generate` does.

        Args:
            instructions: User messages.
            max_new_tokens: Length limit of an answer, in tokens.
            interventions: None, one exact ablation or one addition.
            stop_when: Asked every few tokens with (row, text so far); True ends that row's answer.
            progress: Told (answers done, answers in all).

        Returns:
            Answers in input order.

        Raises:
            ModelError: The interventions cannot be folded, leave too much behind, or the answers are not the model's.
        """
        token_ids = self._model.token_ids(instructions)
        with self._holding(interventions):
            written, ended, decided = self._write(token_ids, max_new_tokens, stop_when, progress)
        tokenizer = self._model.tokenizer
        return [
            Generated(decode_answer(tokenizer, ids), tuple(ids), end, opens_thoughts(tokenizer, prompt), row in decided)
            for row, (prompt, ids, end) in enumerate(zip(token_ids, written, ended, strict=True))
        ]

    def show(self, instructions: Sequence[str], interventions: Sequence[Intervention], watch: Watch) -> None:
        """Tell `watch` what the final norm reads at the last prompt token of each instruction, one row at a time.

        Args:
            instructions: User messages.
            interventions: None, one exact ablation or one addition.
            watch: Told (rows, layer, activations), the layer being n_layers.
        """
        with self._holding(interventions):
            for row, ids in enumerate(self._model.token_ids(instructions)):
                self._rpc("watch")
                self._write([ids], 1, None, None)
                stream = torch.tensor(self._rpc("seen")[0])
                watch([row], self._model.n_layers, stream[-1:])

    def close(self) -> None:
        """Give the engine's memory and processes back."""
        self._llm.llm_engine.engine_core.shutdown()

    def restored(self) -> bool:
        """Whether every parameter holds the very numbers it was loaded with."""
        return self._rpc("digest") == self._digests

    def _write(
        self,
        prompts: Sequence[Sequence[int]],
        limit: int,
        stop_when: Callable[[int, str], bool] | None,
        progress: Callable[[int, int], None] | None,
    ) -> tuple[list[list[int]], list[bool], set[int]]:
        """Token ids of each answer, whether it came to its own end, and the rows that `stop_when` ended."""
        core, tokenizer, ends = self._llm.llm_engine, self._model.tokenizer, list(self._model.end_ids)
        written: list[list[int]] = [[] for _ in prompts]
        ended = [False] * len(prompts)
        stopped: set[int] = set()
        done = 0
        first, self._next = self._next, self._next + len(prompts)
        for row, ids in enumerate(prompts):
            room = min(limit, self._longest - len(ids))
            if room < 1:
                raise ModelError(f"prompt {row} has {len(ids)} tokens; --engine vllm takes {self._longest - 1} at most")
            how = self._sampling(
                temperature=0.0, max_tokens=room, stop_token_ids=ends, detokenize=False, output_kind=self._delta
            )
            core.add_request(str(first + row), self._prompt(prompt_token_ids=list(ids)), how)
        while core.has_unfinished_requests():
            decided: list[str] = []
            for output in self._step():
                row = int(output.request_id) - first
                before = len(written[row])
                written[row] += output.outputs[0].token_ids
                ask = stop_when is not None and before // ASK_EVERY < len(written[row]) // ASK_EVERY
                if output.finished:
                    ended[row] = bool(written[row]) and written[row][-1] in self._model.end_ids
                elif ask and stop_when is not None and stop_when(row, decode_answer(tokenizer, written[row])):
                    decided.append(output.request_id)
                    stopped.add(row)
                else:
                    continue
                done += 1
                if progress is not None:
                    progress(done, len(prompts))
            if decided:
                core.abort_request(decided)
        return written, ended, stopped

    def _step(self) -> list[Any]:
        try:
            return self._llm.llm_engine.step()
        except (RuntimeError, ValueError, NotImplementedError) as error:
            raise ModelError(f"vLLM cannot run {self._model.provenance.spec} here: {error}; use --engine hf") from error

    @contextmanager
    def _holding(self, interventions: Sequence[Intervention]) -> Generator[None, None, None]:
        """The weights carry the interventions inside the context, proved to; the very same numbers afterwards."""
        reason = self.why_not(interventions)
        if reason is not None:
            raise ModelError(f"--engine vllm cannot do this: {reason}; use --engine hf")
        change = interventions[0] if interventions else None
        try:
            if isinstance(change, Ablation):
                self._rpc("fold", change.unit.tolist())
            elif isinstance(change, Addition):
                self._rpc("add", change.layer, (change.direction.float() * change.coefficient).tolist())
            self._llm.reset_prefix_cache()
            if isinstance(change, Ablation):
                self._check_left(change.unit)
            self._check_agreement(change)
            yield
        finally:
            if change is not None:
                self._rpc("restore")
                self._llm.reset_prefix_cache()

    def _check_left(self, direction: Float[Tensor, " d_model"]) -> None:
        """Stop where more of an ablated direction than rounding is left before the head."""
        self._rpc("watch")
        self._write(self._model.token_ids(PROBES), 2, None, None)
        require_gone(self._model, direction, torch.tensor(self._rpc("seen")[0]))

    def _check_agreement(self, change: Intervention | None) -> None:
        """Once for each kind of change: every token is transformers' own first choice, within rounding."""
        if type(change) in self._compared:
            return
        prompts = self._model.token_ids(PROBES)
        written, _, _ = self._write(prompts, COMPARED_TOKENS, None, None)
        require_agreement(self._model, change, prompts, written)
        self._compared.add(type(change))

    def _rpc(self, method: str, *arguments: object) -> list[Any]:
        return self._llm.collective_rpc(method, args=arguments)


def _package() -> str:
    """Name of the installed package: `vllm`, or its build for CPUs."""
    return next(iter(importlib.metadata.packages_distributions().get("vllm", ["vllm"])))
