"""What runs inside vLLM's worker processes: weights that can hold an intervention, and give the same bytes back.

Loaded by name (`LLM(worker_cls=...)`), called by name (`collective_rpc`): only numbers travel. Each parameter keeps its
address, so that compiled steps and CUDA graphs stay valid.

1. Before the step is compiled every writer of the residual stream gets a bias (zeros), which an addition fills, and a tied
   head gets its own copy of the embedding, as in a folded transformers model.
2. `fold`: W' = W - r (r^T W) and b' = b - r (r.b) for every attention and MLP output matrix, and each row of the embedding.
   In 16-bit formats the stream's own sums round, so that r comes back a little with every block: the blocks after the first
   and the final norm remove it from what they are given once more (`again`; zeros while nothing is folded).
3. `add`: a step d at the input of block L is a bias of what block L - 1 writes last, or a shift of the embedding at L = 0.
4. `watch`: the stream before the head, read back through the gain of the final norm, up to its length.

Only models laid out like Llama in vLLM (model.model.layers, two row-parallel writers a block) are known; `describe` says why not.
"""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
# vLLM is absent where types are checked.
from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from vllm.model_executor.layers import utils as layer_utils
from vllm.model_executor.layers.linear import RowParallelLinear
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.platforms import current_platform

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as Worker
else:
    from vllm.v1.worker.gpu_worker import Worker


class FoldingWorker(Worker):
    """A worker whose weights can hold one ablation or one addition."""

    def load_model(self, **options: object) -> None:
        """Read the weights, then prepare the writers: the step is compiled after this."""
        with _matrices_kept():
            super().load_model(**options)
        self._why_not: str | None = None
        self._parameters: dict[str, tuple[Tensor, int]] = {}
        self._originals: dict[str, Tensor] = {}
        self._last: dict[int, RowParallelLinear] = {}
        self._again: Tensor | None = None
        self._seen: list[list[float]] = []
        self._why_not = self._prepare()

    def describe(self) -> dict[str, object]:
        """What was found: why nothing can be folded (or None), blocks and writers."""
        return {"why_not": self._why_not, "blocks": len(self._last), "writers": len(self._parameters)}

    @torch.no_grad()
    def fold(self, direction: list[float]) -> None:
        """Take a unit direction [d_model] out of everything that writes."""
        r = torch.tensor(direction, dtype=torch.float32)
        for name, (parameter, axis) in self._parameters.items():
            wide = self._originals[name].float()
            r = r.to(wide.device)
            along = (wide.movedim(axis, -1) @ r).unsqueeze(axis)
            shape = [1] * wide.ndim
            shape[axis] = len(r)
            parameter.copy_(torch.addcmul(wide, along, r.reshape(shape), value=-1).to(parameter.dtype))
        if self._again is not None:
            self._again.copy_(r)

    @torch.no_grad()
    def add(self, layer: int, step: list[float]) -> None:
        """Add a step [d_model] to the stream that enters a block."""
        d = torch.tensor(step, dtype=torch.float32)
        if layer > 0:
            bias = self._last[layer - 1].bias
            bias.copy_((bias.float() + d.to(bias.device)).to(bias.dtype))
            return
        for name, (parameter, axis) in self._parameters.items():
            if axis == 1:  # the embedding
                parameter.copy_((self._originals[name].float() + d.to(parameter.device)).to(parameter.dtype))

    @torch.no_grad()
    def restore(self) -> None:
        """Put the original numbers back."""
        for name, (parameter, _) in self._parameters.items():
            parameter.copy_(self._originals[name])
        if self._again is not None:
            self._again.zero_()

    def digest(self) -> str:
        """SHA-256 of every parameter: what restoring must give back."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.get_model().named_parameters()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def watch(self) -> None:
        """Record the stream that the final norm reads, read back through its gain, from now on."""
        model = self.get_model()
        gain = model.model.norm.weight.detach().float()
        logits = model.compute_logits
        self._seen = []

        def watched(hidden: Tensor, *arguments: object, **options: object) -> object:
            self._seen += torch.where(gain == 0, 0.0, hidden.float() / gain).tolist()
            return logits(hidden, *arguments, **options)

        model.compute_logits = watched

    def seen(self) -> list[list[float]]:
        """What `watch` recorded, a row for each row and step, up to its length; recording ends."""
        del self.get_model().compute_logits
        return self._seen

    def _prepare(self) -> str | None:
        """Find the writers and make them ready; the reason where this model cannot hold anything."""
        model = self.get_model()
        reason = self._why_unknown(model)
        if reason is not None:
            return reason
        width = self.model_config.hf_text_config.hidden_size
        embedding = _embeddings(model)[0]
        for index, block in enumerate(model.model.layers):
            writers = _writers(block, width)
            if len(writers) != 2:
                return f"block {index} of vLLM's {type(model).__name__} does not have one attention and one MLP output matrix"
            for place, part in enumerate(writers):
                if part.bias is None:
                    empty = torch.zeros(width, dtype=part.params_dtype, device=part.weight.device)
                    part.bias = nn.Parameter(empty, requires_grad=False)
                self._parameters[f"{index}.{place}.weight"] = (part.weight, 0)
                self._parameters[f"{index}.{place}.bias"] = (part.bias, 0)
            self._last[index] = writers[-1]
        self._parameters["embedding"] = (embedding.weight, 1)
        self._originals = {name: parameter.detach().clone() for name, (parameter, _) in self._parameters.items()}
        head = getattr(model, "lm_head", None)
        if head is not None and getattr(head, "weight", None) is embedding.weight:
            head.weight = nn.Parameter(self._originals["embedding"], requires_grad=False)
        if embedding.weight.dtype in {torch.bfloat16, torch.float16}:
            self._again = torch.zeros(width, dtype=torch.float32, device=embedding.weight.device)
            for part in [*list(model.model.layers)[1:], model.model.norm]:
                part.forward = _removing(part.forward, self._again)
        return None

    def _why_unknown(self, model: nn.Module) -> str | None:
        """Why the writers cannot even be looked for."""
        kind, inner = type(model).__name__, getattr(model, "model", None)
        if self.model_config.quantization is not None:
            return f"its weights are quantised ({self.model_config.quantization})"
        if self.parallel_config.pipeline_parallel_size > 1:
            return "its blocks are spread over several workers (pipeline parallel)"
        if not hasattr(inner, "layers") or getattr(getattr(inner, "norm", None), "weight", None) is None:
            return f"vLLM's {kind} is not laid out like Llama (model.layers, model.norm)"
        embeddings = _embeddings(model)
        if len(embeddings) != 1:
            return f"vLLM's {kind} has {len(embeddings)} token embeddings"
        return (
            f"the head of vLLM's {kind} is its embedding" if getattr(model, "lm_head", None) is embeddings[0] else None
        )


def _embeddings(model: nn.Module) -> list[nn.Module]:
    kinds = (part for part in model.modules() if isinstance(part, VocabParallelEmbedding))
    return [part for part in kinds if not isinstance(part, ParallelLMHead)]


def _writers(block: nn.Module, width: int) -> list[RowParallelLinear]:
    """The matrices of a block that write to the stream; none where fused experts write too."""
    if any(type(part).__name__ == "FusedMoE" for part in block.modules()):
        return []
    return [part for part in block.modules() if isinstance(part, RowParallelLinear) and part.output_size == width]


def _removing(forward: Callable[..., object], r: Tensor) -> Callable[..., object]:
    """A forward whose hidden states and residual (the two halves of the stream) come without r; zeros remove nothing."""

    def without(x: Tensor) -> Tensor:
        wide = x.float()
        return (wide - (wide @ r).unsqueeze(-1) * r).to(x.dtype)

    def removed(*arguments: object, **options: object) -> object:
        halves = {"hidden_states", "residual", "x"}
        given = [without(x) if isinstance(x, Tensor) and x.is_floating_point() else x for x in arguments]
        named = {key: without(x) if key in halves and isinstance(x, Tensor) else x for key, x in options.items()}
        return forward(*given, **named)

    return removed


@contextmanager
def _matrices_kept() -> Generator[None, None, None]:
    """On x86 vLLM packs matrices and empties the originals: those that write to the stream stay as they are."""
    packed = layer_utils.dispatch_cpu_unquantized_gemm

    def dispatch(layer: nn.Module, remove_weight: bool) -> None:
        if isinstance(layer, (RowParallelLinear, VocabParallelEmbedding)):
            layer.cpu_linear = nn.functional.linear
        else:
            packed(layer, remove_weight)

    layer_utils.dispatch_cpu_unquantized_gemm = dispatch
    try:
        yield
    finally:
        layer_utils.dispatch_cpu_unquantized_gemm = packed
