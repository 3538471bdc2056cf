"""What a CUDA graph cannot hold: work of the host in a decoding step.

The step runs on the meta device, in bfloat16 and with transformers told that a stream is being captured, as it is on a GPU.
There a tensor of the host that is made or copied in the step, and a number that is read back, would end the capture; here
the first is seen, and the second raises.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers.utils.import_utils as inside
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import tiny_models
from refusal_lens.interventions import Ablation, Addition
from refusal_lens.model import LensModel, load_model
from refusal_lens.model.answers import Job
from refusal_lens.model.decoding import Decoder
from refusal_lens.model.edit import Edit, Intervention, Site

META = torch.device("meta")


class Host(TorchDispatchMode):
    """Operations that take or give tensors of the host."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.count += 1
        tensors = [item for item in tree_leaves((args, kwargs, found)) if isinstance(item, Tensor)]
        if any(item.device.type == "cpu" for item in tensors):
            self.seen.append(str(func))
        return found


def elsewhere(tensor: Tensor) -> Tensor:
    """As many numbers on the meta device, 16 bits each."""
    dtype = torch.bfloat16 if tensor.dtype == torch.float32 else tensor.dtype
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=dtype, device=META)


def decoder_elsewhere(model: LensModel, job: Job, rows: int) -> Decoder:
    """A decoder that has read its prompts, model and all moved to the meta device."""
    decoder = Decoder(model, True, lambda step: step, least=1)
    decoder.begin(job, range(rows), job.limit)
    for module in model.hf.modules():
        for name, weight in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(elsewhere(weight), requires_grad=False))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, elsewhere(buffer))
    for name, value in list(vars(decoder).items()):
        if isinstance(value, Tensor):
            setattr(decoder, name, elsewhere(value))
    for layer in decoder._layers:
        layer._column = decoder._column
        assert layer._whole is not None
        layer._whole = elsewhere(layer._whole[0]), elsewhere(layer._whole[1])
    decoder._held._device = META
    decoder._view(rows)
    return decoder


def host_work(name: str, folder: Path, patch: pytest.MonkeyPatch, made: Callable[[int], list[Intervention]]) -> Host:
    """Run a step of a model there, and see what it asks of the host."""
    model = load_model(str(tiny_models.build(name, folder / name)), check=False)
    ids = sorted(model.token_ids(["What?", "Tell me a story about cats"]), key=len, reverse=True)
    job = Job(model, ids, 8)
    with torch.no_grad(), ExitStack() as hooks:
        decoder = decoder_elsewhere(model, job, len(ids))
        job.hooked = made(model.d_model)
        decoder.hook(job, range(len(ids)), hooks)
        patch.setattr(inside, "is_cuda_stream_capturing", lambda: True)
        with Host() as host:
            decoder._run()
    return host


def both(width: int) -> list[Intervention]:
    directions = torch.randn(2, width)
    return [Addition(directions, layer=1), Ablation(directions)]


@pytest.mark.parametrize("name", ["qwen2", "gemma3", "gpt2", "cohere2", "mixtral", "deepseek_v3", "gpt_oss"])
def test_a_step_asks_nothing_of_the_host(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = host_work(name, tmp_path, monkeypatch, both)
    assert host.count > 100
    assert host.seen == []


class Listed:
    """An intervention that makes a tensor from numbers of Python in every step."""

    holds = False

    def at(self, site: Site, layer: int, /) -> Edit | None:
        return (lambda x: x + torch.tensor([0.5]).to(x)) if (site, layer) == ("block_input", 1) else None

    def after(self, earlier: object, /) -> Intervention:
        return self

    def rows(self, indices: object, /) -> Intervention:
        return self

    def fold_direction(self) -> None:
        return None


def test_a_tensor_of_the_host_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = host_work("qwen2", tmp_path, monkeypatch, lambda _: [Listed()])
    assert "aten._to_copy.default" in host.seen
