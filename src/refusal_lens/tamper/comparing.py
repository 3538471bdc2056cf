"""A checkpoint against its base: what changed, and whether a direction was taken out, in which layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from refusal_lens.errors import ModelError
from refusal_lens.tamper.checkpoints import Checkpoint, layer_of
from refusal_lens.tamper.removal import Removal, consensus, decide, find_removals
from refusal_lens.types import JsonValue


@dataclass(frozen=True)
class Comparison:
    """What two checkpoints differ in.

    Attributes:
        compared: Tensors that both have.
        changed: Those of them that differ.
        only: Names that only one of the two has.
        tests: Directions that were looked at.
        removals: Directions that were taken out, by tensor.
        agreement: Mean squared cosine of the removed directions with the one they share; 1 for one direction everywhere.
            None without removals.
        direction: That shared direction; None without removals.
    """

    compared: int
    changed: tuple[str, ...]
    only: tuple[str, ...]
    tests: int
    removals: tuple[Removal, ...]
    agreement: float | None
    direction: Tensor | None

    @property
    def tampered(self) -> bool:
        """Whether a direction was taken out of any matrix."""
        return bool(self.removals)

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers with a removal, ascending; embeddings and heads have none."""
        return tuple(sorted({one.layer for one in self.removals if one.layer is not None}))

    def as_json(self) -> dict[str, JsonValue]:
        """The comparison for a machine, without the vectors."""
        tensors: list[JsonValue] = [
            {
                "name": one.name,
                "layer": one.layer,
                "side": one.side,
                "share": one.share,
                "cosine": one.cosine,
                "removed": one.removed,
                "remaining": one.remaining,
                "log10_p": max(one.log10_p, -9999.0),
            }
            for one in self.removals
        ]
        return {
            "verdict": "tampered" if self.tampered else "clean",
            "tampered": self.tampered,
            "layers": list[JsonValue](self.layers),
            "outside_layers": list[JsonValue](sorted({one.name for one in self.removals if one.layer is None})),
            "tensors": tensors,
            "agreement": self.agreement,
            "compared": self.compared,
            "changed": len(self.changed),
            "changed_layers": list[JsonValue](
                sorted({layer for name in self.changed if (layer := layer_of(name)) is not None})
            ),
            "only_in_one": list[JsonValue](self.only),
            "tests": self.tests,
        }


def compare(
    checkpoint: Checkpoint, base: Checkpoint, *, progress: Callable[[int, int], None] | None = None
) -> Comparison:
    """Compare two checkpoints tensor by tensor; two tensors are in memory at a time.

    Args:
        checkpoint: What may have been tampered with.
        base: What it was made from.
        progress: Told (done, total) tensors.

    Returns:
        The comparison.

    Raises:
        ModelError: They have no tensor in common, or one of another shape.

    Example:
        compare(open_checkpoint("./suspect"), open_checkpoint("Qwen/Qwen2.5-7B-Instruct")).layers
    """
    common = [name for name in checkpoint.files if name in base.files]
    if not common:
        raise ModelError(
            f"{checkpoint.spec} and {base.spec} have no tensor in common (e.g. {next(iter(checkpoint.files))} and "
            f"{next(iter(base.files))}): --base must be the very model that it was made from"
        )
    for name in common:
        if checkpoint.shapes[name] != base.shapes[name]:
            raise ModelError(
                f"{name} has shape {list(checkpoint.shapes[name])} in {checkpoint.spec} and {list(base.shapes[name])} in "
                f"{base.spec}: --base must be the very model that it was made from"
            )
    changed: list[str] = []
    measured: list[Removal] = []
    width = _width([base.shapes[name] for name in common])
    for done, name in enumerate(common):
        before, after = base.read(name), checkpoint.read(name)
        if not (before.is_floating_point() and after.is_floating_point()):
            continue
        with torch.no_grad():
            same = before.dtype == after.dtype and torch.equal(before, after)
            if not same and not torch.equal(before.float(), after.float()):
                changed.append(name)
                if not bool(torch.isfinite(after.float()).all()):
                    raise ModelError(
                        f"{name} of {checkpoint.spec} holds NaN or infinite weights: nothing can be compared"
                    )
                if before.ndim >= 2 and min(before.shape[-2:]) > 1:
                    measured += find_removals(name, layer_of(name), before, after, width=width)
        if progress is not None:
            progress(done + 1, len(common))
    removals = decide(measured)
    shared, agreement = _shared(removals)
    only = sorted(set(checkpoint.files) ^ set(base.files))
    return Comparison(len(common), tuple(changed), tuple(only), len(measured), tuple(removals), agreement, shared)


def _width(shapes: Sequence[tuple[int, ...]]) -> int:
    """Width of the residual stream: the commonest length of a matrix' first or last axis."""
    counts = Counter(length for shape in shapes if len(shape) >= 2 for length in (shape[-2], shape[-1]))
    return counts.most_common(1)[0][0] if counts else 0


def _shared(removals: list[Removal]) -> tuple[Tensor | None, float | None]:
    """What the removed directions share, each tensor's strongest alone."""
    strongest: dict[str, Removal] = {}
    for one in removals:
        if one.name not in strongest or one.share > strongest[one.name].share:
            strongest[one.name] = one
    return consensus([one.vector for one in strongest.values()]) if strongest else (None, None)
