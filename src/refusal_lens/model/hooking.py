"""Place interventions into a running model: hooks that return new tensors, and never stay behind.

For every part of the layout the edits of all interventions are composed in the order given and put on one hook. The
context is all-or-nothing: if one intervention finds no place to act, or a hook cannot be set, none remains.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn

from refusal_lens.model.edit import FULL_PRECISION, Edit, Intervention, Placement, Site
from refusal_lens.model.layout import Layout

Hold: TypeAlias = Callable[[Site, int, Edit], Edit]
"""Puts another edit in an edit's place that does the same."""


@contextmanager
def edited(
    layout: Layout,
    interventions: Sequence[Intervention],
    *,
    dtype: torch.dtype = torch.float32,
    hold: Hold | None = None,
) -> Generator[None, None, None]:
    """Apply interventions to every forward pass inside the context.

    Args:
        layout: Parts of the model to act on.
        interventions: Applied in this order at each place. One that holds (an exact ablation) holds whatever the order:
            what another would add along its direction is left out.
        dtype: Number format of the residual stream.
        hold: Told every edit with its place, gives the one that acts there.

    Yields:
        Nothing; hooks are removed at the end, also after an error.
    """
    with placed(layout, [intervention.at for intervention in _resolved(interventions)], dtype=dtype, hold=hold):
        yield


@contextmanager
def placed(
    layout: Layout,
    placements: Sequence[Placement],
    *,
    dtype: torch.dtype = torch.float32,
    hold: Hold | None = None,
) -> Generator[None, None, None]:
    """The same for edits by place alone, composed in the order given.

    Args:
        layout: Parts of the model to act on.
        placements: What is done at each place.
        dtype: Number format of the residual stream.
        hold: As for `edited`.

    Yields:
        Nothing; hooks are removed at the end, also after an error.

    Raises:
        ValueError: One of them acts nowhere in this model.
    """
    edits: dict[tuple[nn.Module, bool], list[Edit]] = {}
    for at in placements:
        found = False
        for layer, site, module, is_input in _places(layout, rounds=dtype not in FULL_PRECISION):
            edit = at(site, layer)
            if edit is not None:
                edits.setdefault((module, is_input), []).append(hold(site, layer, edit) if hold else edit)
                found = True
        if not found:
            name = type(getattr(at, "__self__", at)).__name__
            raise ValueError(f"{name} acts nowhere in a model of {layout.n_layers} layers")
    with ExitStack() as stack:
        for (module, is_input), functions in edits.items():
            handle = (
                module.register_forward_pre_hook(_input_hook(functions), with_kwargs=True)
                if is_input
                else module.register_forward_hook(_output_hook(functions))
            )
            stack.callback(handle.remove)
        yield


@contextmanager
def editing_inputs(modules: Sequence[nn.Module], edit: Edit) -> Generator[None, None, None]:
    """Apply one edit to what some modules read, inside the context.

    Args:
        modules: The modules.
        edit: Applied to each one's activations.

    Yields:
        Nothing; hooks are removed at the end, also after an error.
    """
    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_pre_hook(_input_hook([edit]), with_kwargs=True).remove)
        yield


def rounded_inputs(layout: Layout) -> list[nn.Module]:
    """Modules that read the residual stream after sums: the blocks after the first, and the final norm."""
    final = [] if layout.final_norm is None else [layout.final_norm]
    return [*(block.module for block in layout.blocks[1:]), *final]


def _resolved(interventions: Sequence[Intervention]) -> list[Intervention]:
    """Each intervention beside the earlier ones, and beside all that hold."""
    done: dict[int, Intervention] = {}
    for index in sorted(range(len(interventions)), key=lambda index: not interventions[index].holds):
        others = [other for place, other in sorted(done.items()) if place < index or other.holds]
        done[index] = interventions[index].after(others)
    return [done[index] for index in range(len(interventions))]


def _places(layout: Layout, *, rounds: bool) -> Iterator[tuple[int, Site, nn.Module, bool]]:
    """Every place in the order the residual stream passes it: layer, site, module, whether its input is meant."""
    for layer, block in enumerate(layout.blocks):
        if layer == 0:
            yield layer, "embedding", block.module, True
        yield layer, "block_input", block.module, True
        if rounds and layer > 0:
            yield layer, "rounded", block.module, True
        yield layer, "attention_output", block.attention, False
        yield layer, "attention_write", block.attention_write, False
        for module in block.mlp:
            yield layer, "mlp_output", module, False
        for module in block.mlp_write:
            yield layer, "mlp_write", module, False
    if rounds and layout.final_norm is not None:
        yield layout.n_layers, "rounded", layout.final_norm, True


def _input_hook(edits: Sequence[Edit]) -> Callable[..., tuple[tuple[object, ...], dict[str, object]]]:
    def hook(
        _module: nn.Module, arguments: tuple[object, ...], keywords: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        if arguments:
            hidden = arguments[0]
            assert isinstance(hidden, Tensor), "a block's first argument is its hidden states"
            for edit in edits:
                hidden = edit(hidden)
            return (hidden, *arguments[1:]), keywords
        hidden = keywords["hidden_states"]
        assert isinstance(hidden, Tensor), "a block's hidden_states are a tensor"
        for edit in edits:
            hidden = edit(hidden)
        return arguments, {**keywords, "hidden_states": hidden}

    return hook


def _output_hook(edits: Sequence[Edit]) -> Callable[..., object]:
    def hook(_module: nn.Module, _arguments: object, output: object) -> object:
        first = output[0] if isinstance(output, tuple) else output
        assert isinstance(first, Tensor), "attention and MLP modules return their activations first"
        for edit in edits:
            first = edit(first)
        return (first, *output[1:]) if isinstance(output, tuple) else first

    return hook
