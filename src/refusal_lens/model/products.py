"""Matrices as a CPU multiplies them fastest when few rows are written at a time.

With a matrix stored [out, in], as files have it, every product of 4 to 100 rows first rearranges the whole matrix: a third of
the time of decoding. Stored [in, out] it is read as it is, and larger products take the same time (docs/speed.md). Only the
order in memory changes, not a number. A head that shares its matrix with the embedding leaves it as it is, since embeddings
read rows of it; there the product is turned round instead.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

FEW = range(3, 129)
"""Rows for which the turned product is faster."""


def arrange_for_cpu(network: PreTrainedModel) -> None:
    """Arrange the matrices of a network whose weights are float32 on a CPU; others are left alone.

    Args:
        network: The network.
    """
    if getattr(network, "is_quantized", False):
        return
    owners = Counter(id(parameter) for module in network.modules() for parameter in module.parameters(recurse=False))
    for module in network.modules():
        if type(module) is not nn.Linear:
            continue
        weight = module.weight
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            continue
        if owners[id(weight)] > 1:
            setattr(module, "forward", partial(_turned, module))  # noqa: B010 (a module's own method, in its place)
        else:
            weight.data = weight.data.t().contiguous().t()


def _turned(module: nn.Linear, hidden: Tensor) -> Tensor:
    rows = hidden.reshape(-1, hidden.shape[-1])
    if "bias" in dict(module.named_parameters()) or len(rows) not in FEW:
        return linear(hidden, module.weight, module.bias)
    return torch.mm(module.weight, rows.t()).t().reshape(*hidden.shape[:-1], -1)
