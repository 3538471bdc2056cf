"""A removed direction in the difference of two weight matrices.

Abliteration takes a direction r out of what a matrix W writes (or reads): W' = W - a r (r' W), with a = 1 for a whole removal,
less for an attenuated and more for an overshooting one. So along the leading left singular vectors u of D = W' - W

    cosine    = cos(u' D, u' W)              -1 for a removal of whatever strength, 0 for a change that knows nothing of W
    removed   = -(u' D) . (u' W) / |u' W|^2  the share a that was taken away
    remaining = |u' W'| / |u' W|             about |1 - a|

and the same along the right ones, for matrices that keep the residual stream on their other side (embeddings, readers). A
benign change of any rank or norm (noise, an adapter, rounding) points anywhere seen from u' W: its cosine is that of two
random vectors in n dimensions, t = cosine sqrt((n - 1) / (1 - cosine^2)) with n - 1 degrees of freedom. Found: cosine at most
COSINE, a p-value below LEVEL after Bonferroni over all tests, and at least LEAST removed (rounding removes less). Training also
shrinks one or the other minor direction of an embedding, so one with less than MAJOR of the change's energy counts only where
another matrix lost the same (|cosine| at least SAME). Only axes of the residual stream's width are looked at.

Set aside first: the part of D that is a multiple of W (a rescaling, or rounding towards zero), weights that are zero now
(pruned), and vectors that are a single coordinate (a scaled row). Several directions removed at once are several singular
vectors. It sees no change that keeps every projection, such as training. Source: Arditi et al. (2024), section 4, for the
edit; the test is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from scipy.stats import t as student
from torch import Tensor

COSINE = -0.7
LEVEL = 1e-3
LEAST = 0.02
COMPONENTS = 8
ONE_COORDINATE = 0.9
MAJOR, SAME = 0.1, 0.8
ROUNDING = 1e-8
"""A change that is a multiple of the base but for this share of its energy is a rescaling."""
WORTH = 1e-4
"""Singular vectors with less than this share of the change's energy are not looked at."""


@dataclass(frozen=True, eq=False)
class Removal:
    """A direction that seems to be taken out of one matrix.

    Attributes:
        name: Name of the tensor.
        layer: Its layer; None outside the layers.
        side: "output" where the direction lies along the first axis, "input" along the last.
        share: Share of the change's energy along it.
        cosine: See the module's docstring.
        removed: Share of the direction that was taken away.
        remaining: What is left of it, as a share of the base's.
        log10_p: Of the cosine against a change that knows nothing of the base, before Bonferroni.
        vector: Unit direction.
    """

    name: str
    layer: int | None
    side: str
    share: float
    cosine: float
    removed: float
    remaining: float
    log10_p: float
    vector: Tensor


def find_removals(name: str, layer: int | None, base: Tensor, changed: Tensor, *, width: int) -> list[Removal]:
    """Every leading direction of a change, with what it did to the base along it; none where nothing changed.

    Args:
        name: Name of the tensor.
        layer: Its layer.
        base: W, two axes or more; the first and the last are looked at (experts are taken together).
        changed: W', of the same shape.
        width: Width of the residual stream; an axis of another length holds no direction of it.

    Returns:
        At most two per singular vector, before any decision.
    """
    found: list[Removal] = []
    for side, before, after in _sides(base, changed):
        if len(before) != width:
            continue
        found += [replace(one, name=name, layer=layer, side=side) for one in _along(before, after)]
    return found


def decide(measured: Sequence[Removal]) -> list[Removal]:
    """Those that are removals beyond what a benign change does, given how many were looked at.

    Args:
        measured: What was measured in all tensors of a checkpoint.

    Returns:
        The removals, for each tensor along its better side only.
    """
    limit = math.log10(LEVEL / max(1, len(measured)))
    passed = [one for one in measured if one.cosine <= COSINE and one.log10_p < limit and one.removed >= LEAST]
    best: dict[str, str] = {}
    for one in sorted(passed, key=lambda one: one.cosine, reverse=True):
        best[one.name] = one.side
    kept = [one for one in passed if one.side == best[one.name] and not _one_coordinate(one.vector)]
    return [one for one in kept if one.share >= MAJOR or any(_same(one, other) for other in kept)]


def consensus(vectors: Sequence[Tensor]) -> tuple[Tensor, float]:
    """The direction that unit vectors share up to sign, and their mean squared cosine with it."""
    rows = torch.stack(list(vectors)).double()
    _, _, right = torch.linalg.svd(rows, full_matrices=False)
    return right[0].float(), float((rows @ right[0]).square().mean())


def _sides(base: Tensor, changed: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    """The matrix with the direction's axis first, seen from either side."""
    if base.ndim == 2:
        yield "output", base, changed
        yield "input", base.T, changed.T
        return
    for side, axis in (("output", -2), ("input", -1)):  # stacked experts: [expert, out, in]
        yield side, base.movedim(axis, 0).flatten(1), changed.movedim(axis, 0).flatten(1)


def _along(base: Tensor, changed: Tensor) -> list[Removal]:
    after = changed.float()
    before = torch.where(after == 0, 0.0, base.float())  # what was pruned away says nothing about a direction
    change = after - before
    energy = float(before.square().sum())
    if energy == 0 or not bool(change.any()):
        return []
    rest = change - (float((change * before).sum()) / energy) * before
    total = float(rest.square().sum())
    if total <= ROUNDING * float(change.square().sum()):
        return []
    width = min(COMPONENTS, *rest.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        left, values, _ = torch.svd_lowrank(rest, q=min(width + 4, *rest.shape), niter=4)
    found: list[Removal] = []
    for vector, value in zip(left.T[:width], values[:width].tolist(), strict=True):
        share = value**2 / total
        if share < WORTH:
            break
        written, moved, apart = vector @ before, vector @ change, vector @ rest
        norms = float(written.norm()), float(apart.norm())
        if min(norms) == 0:
            continue
        cosine = max(-1.0, min(1.0, float(written @ apart) / (norms[0] * norms[1])))
        removed = -float(moved @ written) / norms[0] ** 2
        remaining = float((written + moved).norm()) / norms[0]
        log10_p = _log10_p(cosine, len(written))
        found.append(Removal("", None, "", share, cosine, removed, remaining, log10_p, vector.clone()))
    return found


def _log10_p(cosine: float, n: int) -> float:
    if n < 3:
        return 0.0
    statistic = cosine * math.sqrt((n - 1) / max(1e-15, 1 - cosine**2))
    return float(student.logcdf(statistic, n - 1)) / math.log(10)


def _same(one: Removal, other: Removal) -> bool:
    """Whether another matrix lost the same direction."""
    return one.name != other.name and abs(float(one.vector @ other.vector)) >= SAME


def _one_coordinate(vector: Tensor) -> bool:
    return float(vector.square().max()) > ONE_COORDINATE
