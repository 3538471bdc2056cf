"""One call of generate as the loops see it: what is asked, what is written so far, and when an answer is done."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from torch import Tensor, nn

from refusal_lens.core.progress import tell
from refusal_lens.model.edit import Intervention
from refusal_lens.model.hooking import Hold
from refusal_lens.model.layout import hidden_input
from refusal_lens.model.lens import LensModel
from refusal_lens.model.thoughts import decode_answer, opens_thoughts

Watch: TypeAlias = Callable[[Sequence[int], int, Tensor], None]
"""Told (rows, layer, activations [row, d_model]) of each reader of the residual stream; the final norm's layer is n_layers."""

ASK_EVERY = 16
"""Tokens between two questions to `stop_when`."""

KEEP = 0.8
"""A batch shrinks once fewer than this share of its rows still writes."""


@dataclass(frozen=True, slots=True)
class Generated:
    """An answer.

    Attributes:
        text: Decoded without special tokens, marks of thoughts kept. Untrusted.
        token_ids: Generated ids, the end token included.
        finished: False when cut at the token limit or by `stop_when`.
        opened: The prompt opened a block of thoughts, so the text begins with thoughts.
        decided: Ended by `stop_when`; not cut at the limit.
    """

    text: str
    token_ids: tuple[int, ...]
    finished: bool
    opened: bool = False
    decided: bool = False


@dataclass
class Job:
    """One call of generate: what is asked, and the answers so far."""

    model: LensModel
    token_ids: Sequence[Sequence[int]]
    limit: int
    stop_when: Callable[[int, str], bool] | None = None
    progress: Callable[[int, int], None] | None = None
    watch: Watch | None = None
    hooked: Sequence[Intervention] = ()
    answers: dict[int, Generated] = field(default_factory=dict[int, Generated])
    written: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    tokens: int = 0
    spared: int = 0
    """Tokens below the limit that answers did not need because they ended."""

    def so_far(self, row: int) -> list[int]:
        """A row's prompt and what is written of its answer."""
        return [*self.token_ids[row], *self.written.get(row, ())]

    def room(self, row: int) -> int:
        """Most tokens of a row's answer: the limit, or what its own prompt leaves of the context."""
        context = self.model.context
        return self.limit if context is None else min(self.limit, context - len(self.token_ids[row]))

    def steps(self, width: int) -> int:
        """Most tokens that a batch of this width may write before it has no column left in the context."""
        return self.limit if self.model.context is None else min(self.limit, self.model.context - width)

    def take(self, row: int, token: int) -> None:
        """Append a token to a row's answer, and finish the answer where it ends; a finished answer takes no more."""
        if row in self.answers:
            return
        end, decided = token in self.model.end_ids, False
        written = self.written.setdefault(row, [])
        written.append(token)
        self.tokens += 1
        if end or len(written) >= self.room(row) or (decided := self._decided(row, written)):
            opened = opens_thoughts(self.model.tokenizer, self.token_ids[row])
            self.answers[row] = Generated(self._text(written), tuple(written), end, opened, decided)
            self.spared += self.limit - len(written)
            if self.progress is not None:
                self.progress(len(self.answers), len(self.token_ids))

    def tell(self) -> None:
        """Say how far the answers are to who listens; an answer that ended early counts as whole."""
        asked = len(self.token_ids)
        tell(
            self.tokens + self.spared,
            asked * self.limit,
            lambda: f"{len(self.answers)} of {asked} answers, {self.tokens:,} tokens",
        )

    def hook(self, rows: Sequence[int], hooks: ExitStack, *, hold: Hold | None = None) -> None:
        """Set the hooks for a batch of these rows, in place of earlier ones."""
        hooks.close()
        hooks.enter_context(self.model.edited([item.rows(rows) for item in self.hooked], hold=hold))

    @contextmanager
    def shown(self, rows: Sequence[int]) -> Generator[None, None, None]:
        """Show what every reader reads at the last token of these rows to who watches."""
        watch, d_model = self.watch, self.model.d_model
        if watch is None:
            yield
            return

        def note(layer: int, arguments: tuple[object, ...], keywords: dict[str, object]) -> None:
            hidden = hidden_input(arguments, keywords)
            assert hidden is not None, "readers are called with activations"
            watch(rows, layer, hidden.reshape(len(rows), -1, d_model)[:, -1])

        with ExitStack() as stack:
            for layer, reader in self.model.layout.readers:
                hook = partial(_forward_to, note, layer)
                stack.callback(reader.register_forward_pre_hook(hook, with_kwargs=True).remove)
            yield

    def _decided(self, row: int, written: Sequence[int]) -> bool:
        asked = self.stop_when is not None and len(written) % ASK_EVERY == 0
        return asked and self.stop_when is not None and self.stop_when(row, self._text(written))

    def _text(self, ids: Sequence[int]) -> str:
        return decode_answer(self.model.tokenizer, ids)


def _forward_to(
    note: Callable[[int, tuple[object, ...], dict[str, object]], None],
    layer: int,
    _module: nn.Module,
    arguments: tuple[object, ...],
    keywords: dict[str, object],
) -> None:
    note(layer, arguments, keywords)
