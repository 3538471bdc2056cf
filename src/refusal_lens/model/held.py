"""Tensors of hooks in storage that stays, so that a recorded step reads other directions from where it read the first ones.

Directions of an ablation or addition are copied into buffers, one for each tensor of an edit, and hooks read those. Two sets of
hooks that do the same arithmetic at the same places on buffers of the same address leave a step that may be repeated under
either: `state` names that. An edit that is more than its tensors gets a state of its own each time, and its steps are recorded
anew. So do hooks and weights that others have set since.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor, nn

from refusal_lens.model.edit import Edit, Site, TensorEdit


class HeldEdits:
    """Buffers on one device, and what the hooks that read them do."""

    def __init__(self, device: torch.device) -> None:
        """No buffer yet."""
        self._device = device
        self._buffers: dict[Hashable, Tensor] = {}
        self.begin()

    def begin(self) -> None:
        """A new set of hooks: the buffers take their tensors in the order in which they come."""
        self._moved: dict[int, tuple[Edit, Edit, Hashable]] = {}
        self._places: list[Hashable] = []

    def __call__(self, site: Site, layer: int, edit: Edit) -> Edit:
        """The edit on buffers, holding its numbers of now."""
        if id(edit) not in self._moved:
            self._moved[id(edit)] = (edit, *self._hold(edit))
        _, moved, what = self._moved[id(edit)]
        self._places.append((site, layer, what))
        return moved

    def state(self) -> Hashable:
        """What the hooks set since `begin` do, their numbers aside."""
        return tuple(self._places)

    def _hold(self, edit: Edit) -> tuple[Edit, Hashable]:
        if not isinstance(edit, TensorEdit):
            return edit, object()
        tensors = edit.tensors()
        placed = {name: self._copy((len(self._moved), name), tensor) for name, tensor in tensors.items()}
        shapes = tuple((name, tuple(tensor.shape), tensor.data_ptr()) for name, tensor in placed.items())
        return edit.on(placed), (type(edit), shapes)

    def _copy(self, key: tuple[int, str], tensor: Tensor) -> Tensor:
        """The first rows of a buffer with room for them: fewer rows of a batch later stand at the same address."""
        rows, shape = tensor.shape[:1], tensor.shape[1:]
        whole = (*key, tuple(shape), tensor.dtype, bool(rows))
        buffer = self._buffers.get(whole)
        if buffer is None or buffer.shape[:1] < rows:
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, device=self._device)
            self._buffers[whole] = buffer
        view = buffer[: rows[0]] if rows else buffer
        return view.copy_(tensor, non_blocking=True)


def weights_and_hooks(network: nn.Module) -> Hashable:
    """Where a network's numbers lie and which hooks others have set: with another answer, a recorded step is another step."""
    found: list[Hashable] = [torch.is_inference_mode_enabled()]
    for module in network.modules():
        found += [part.data_ptr() for part in module.parameters(recurse=False)]
        found += [part.data_ptr() for part in module.buffers(recurse=False)]
        hooks = (*vars(module)["_forward_pre_hooks"], *vars(module)["_forward_hooks"])
        found += [hooks, id(module.__dict__.get("forward"))]
    return tuple(found)
