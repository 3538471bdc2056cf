"""Fold the removal of a direction into the weights, in memory, and put the very same weights back.

Where blocks add to the residual stream without a norm in between, removing r from everything written equals removing
it from the matrices that write:  W' = W - r (r^T W),  b' = b - r (r.b)  for every attention and MLP output matrix,
and each row of every embedding likewise. Tied output embeddings keep the original matrix.

1. Output matrices are found by watching a forward pass: the linear map whose result its module returns unchanged, and
   the last stack of matrices of fused experts, in either orientation.
2. The plan is proved before it is trusted: folded and hooked logits must agree along a direction that matters.
3. In 16-bit formats the stream's own sums round, so that the direction comes back a little with every block: hooks on the
   blocks' inputs and on the final norm remove it there once more, as they do for an ablation by hooks.
4. Folded weights stand where the originals stood, so that a recorded decoding step goes on with them; a copy of the originals
   is put back afterwards, byte for byte. What shares its memory (tied embeddings) is exchanged for a parameter of its own.

Never exact with post-norms (gain and scale act after the projection), nor for quantised or off-loaded weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from refusal_lens.model.batches import Batch
from refusal_lens.model.edit import FULL_PRECISION, Edit, Intervention, Site
from refusal_lens.model.hooking import editing_inputs, placed, rounded_inputs
from refusal_lens.model.layout import Event, hidden_input, same_memory, watching
from refusal_lens.model.lens import LensModel
from refusal_lens.model.projection import Projecting, removing, unit

AGREEMENT = {torch.float32: 0.01, torch.float64: 0.01}
LOW_PRECISION_AGREEMENT = 0.3
"""Largest difference of folded and hooked logits, as a share of what the ablation changes in them."""


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """A parameter that writes to the residual stream.

    Attributes:
        owner: Its module.
        name: Its name there.
        axis: Its dimension of size d_model.
        alone: Nothing else in the model lies in its memory.
    """

    owner: nn.Module
    name: str
    axis: int
    alone: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class FoldPlan:
    """Which parameters to fold, and which modules need the direction removed from what they read besides.

    Attributes:
        written: The parameters.
        rounded: The modules; none in full precision.
        why_not: The reason where folding is not exact, None where it is.
    """

    written: tuple[Written, ...]
    rounded: tuple[nn.Module, ...]
    why_not: str | None

    @property
    def exact(self) -> bool:
        """Whether folding equals hooks."""
        return self.why_not is None

    def weights_alone(self) -> FoldPlan:
        """The plan without its hooks, for who sets those of `Rounded` himself."""
        return replace(self, rounded=())


_PLANS: WeakKeyDictionary[LensModel, FoldPlan] = WeakKeyDictionary()


def fold_plan(model: LensModel) -> FoldPlan:
    """Which weights carry an ablation of this model, proved once per model.

    Args:
        model: The model.

    Returns:
        The plan.
    """
    if model not in _PLANS:
        written, why_not, seen = _find(model)
        rounded = () if model.dtype in FULL_PRECISION else tuple(rounded_inputs(model.layout))
        lying = Counter(item.data_ptr() for _, item in model.hf.named_parameters(remove_duplicate=False))
        alone = (replace(item, alone=lying[getattr(item.owner, item.name).data_ptr()] == 1) for item in written)
        plan = FoldPlan(tuple(alone), rounded, why_not)
        if seen is not None and not _proved(model, plan, seen):
            plan = FoldPlan((), (), "folded and hooked logits differ")
        _PLANS[model] = plan
    return _PLANS[model]


@contextmanager
def folding(plan: FoldPlan, direction: Tensor) -> Generator[None, None, None]:
    """Hold weights without a direction inside the context.

    Args:
        plan: An exact plan of the model.
        direction: Unit direction [d_model] in float32; zeros change nothing.

    Yields:
        Nothing; afterwards the modules hold their original parameters again, also after an error.
    """
    with torch.no_grad(), ExitStack() as stack:
        for item in plan.written:
            original: nn.Parameter = getattr(item.owner, item.name)
            placed_direction = direction.to(original.device)
            if item.alone and (torch.is_inference_mode_enabled() or not original.is_inference()):
                stack.callback(original.copy_, original.clone())
                _without(original, placed_direction, item.axis, out=original)
            else:
                stack.callback(setattr, item.owner, item.name, original)
                removed = _without(original, placed_direction, item.axis)
                setattr(item.owner, item.name, nn.Parameter(removed, requires_grad=False))
        stack.enter_context(editing_inputs(plan.rounded, Projecting(direction)))
        yield


@dataclass(frozen=True, eq=False)
class Rounded:
    """What folded weights need besides in 16-bit formats, as an intervention: the direction removed from rounded sums."""

    direction: Tensor
    holds = True

    @cached_property
    def _edit(self) -> Edit:
        return Projecting(self.direction)

    def at(self, site: Site, layer: int, /) -> Edit | None:  # noqa: ARG002 (every layer alike)
        """Acts where sums have been rounded."""
        return self._edit if site == "rounded" else None

    def after(self, earlier: Sequence[Intervention], /) -> Rounded:  # noqa: ARG002 (it stands alone)
        """Itself."""
        return self

    def rows(self, indices: Sequence[int], /) -> Rounded:  # noqa: ARG002 (one direction for all)
        """Itself."""
        return self

    def fold_direction(self) -> Tensor | None:
        """None: it is what is left of one."""
        return None


def _without(weight: Tensor, direction: Tensor, axis: int, *, out: Tensor | None = None) -> Tensor:
    """A matrix without a direction, as a new one or in the place of `out`."""
    wide = weight.detach().float()
    shape = [1] * weight.ndim
    shape[axis] = direction.shape[0]
    along = (wide.movedim(axis, -1) @ direction).unsqueeze(axis)
    if out is not None and out.dtype == torch.float32:
        return out.addcmul_(along, direction.reshape(shape), value=-1)
    removed = torch.addcmul(wide, along, direction.reshape(shape), value=-1).to(weight.dtype)
    return removed if out is None else out.copy_(removed)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """One pass of the unchanged model: its batch, its logits, and the first row's stream half-way up."""

    batch: Batch
    logits: Tensor
    used: Tensor


def _see(model: LensModel) -> _Seen:
    batch = model.batch(model.probes(3))
    found: list[Tensor] = []

    def note(_module: nn.Module, arguments: tuple[object, ...], keywords: dict[str, object]) -> None:
        hidden = hidden_input(arguments, keywords)
        assert hidden is not None, "a decoder block is called with hidden states"
        found.append(hidden[0, -1].float())

    handle = model.layout.blocks[model.n_layers // 2].module.register_forward_pre_hook(note, with_kwargs=True)
    try:
        logits = model.logits(batch).float()
    finally:
        handle.remove()
    return _Seen(batch, logits, found[0])


def _find(model: LensModel) -> tuple[list[Written], str | None, _Seen | None]:
    layout = model.layout
    if layout.post_norm:
        return [], "a norm follows attention or MLP before the residual stream", None
    if getattr(model.hf, "is_quantized", False) or getattr(model.hf.config, "quantization_config", None) is not None:
        return [], "weights are quantised", None
    if any(not parameter.is_floating_point() or parameter.device.type == "meta" for parameter in model.hf.parameters()):
        return [], "weights are quantised or off-loaded", None
    written = [Written(module, "weight", 1) for module in dict.fromkeys(layout.embeddings)]
    if any(module.embedding_dim != model.d_model for module in layout.embeddings):
        return [], "embeddings do not have the width of the residual stream", None
    carriers = [module for block in layout.blocks for module in (block.attention, *block.mlp)]
    inside = {part for carrier in carriers for part in carrier.modules()}
    with watching(inside) as events:
        seen = _see(model)
    ran = {event.module: event for event in events}
    for carrier in carriers:
        found = list(_outputs(carrier, ran, model.d_model))
        if not found:
            return [], f"found no output matrix in {type(carrier).__name__}", None
        written += found
    return written, None, seen


def _outputs(carrier: nn.Module, ran: dict[nn.Module, Event], d_model: int) -> Iterator[Written]:
    """Parameters of a module whose result is what it returns, its experts included."""
    stacks = [
        part for part in carrier.modules() if any(parameter.ndim == 3 for parameter in part.parameters(recurse=False))
    ]
    if not stacks:
        yield from _final(carrier, ran, d_model)
        return
    for stack in stacks:
        yield from _experts(stack, d_model)
    for child in carrier.children():
        if child not in stacks and any(child.children()) and not any(part in stacks for part in child.modules()):
            yield from _final(child, ran, d_model)


def _final(module: nn.Module, ran: dict[nn.Module, Event], d_model: int) -> Iterator[Written]:
    if module not in ran:
        return
    for part in module.modules():
        axis = 0 if isinstance(part, nn.Linear) else 1 if isinstance(part, Conv1D) else None
        if axis is None or part not in ran or ran[part].returned.shape[-1] != d_model:
            continue  # a router's output is chosen from, not added to the stream
        if same_memory(ran[part].returned, ran[module].returned):
            yield Written(part, "weight", axis)
            if "bias" in dict(part.named_parameters(recurse=False)):
                yield Written(part, "bias", 0)


def _experts(stack: nn.Module, d_model: int) -> Iterator[Written]:
    """The last of an experts module's stacked matrices, [expert, out, in] or [expert, in, out], and its bias."""
    matrices = [(name, parameter) for name, parameter in stack.named_parameters(recurse=False) if parameter.ndim == 3]
    name, last = matrices[-1]
    axes = [axis for axis in (1, 2) if last.shape[axis] == d_model]
    if len(axes) == 2:  # square: the first stack [expert, 2 * in, d_model] or its transpose tells the orientation
        first = matrices[0][1]
        axes = [1] if first.shape[2] == d_model else [2]
    if not axes:
        return
    yield Written(stack, name, axes[0])
    for other, parameter in stack.named_parameters(recurse=False):
        if other != name and other.startswith(name) and parameter.ndim == 2 and parameter.shape[1] == d_model:
            yield Written(stack, other, 1)


@torch.no_grad()
def _proved(model: LensModel, plan: FoldPlan, seen: _Seen) -> bool:
    direction, batch, plain = unit(seen.used), seen.batch, seen.logits
    if not bool(torch.isfinite(direction).all()) or not bool(direction.any()):
        return False
    with placed(model.layout, [removing(direction)], dtype=model.dtype):
        hooked = model.logits(batch).float()
    with folding(plan, direction):
        folded = model.logits(batch).float()
    change = float((hooked - plain).abs().max())
    allowed = AGREEMENT.get(model.dtype, LOW_PRECISION_AGREEMENT) * change + 1e-6 * float(plain.abs().max())
    return float((folded - hooked).abs().max()) <= allowed
