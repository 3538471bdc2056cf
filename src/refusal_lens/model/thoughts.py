"""What a tokenizer shows of a model's thoughts: whether the prompt opens them, and the marks around them in an answer.

Templates of reasoning models end in the opening mark (`<think>`), so that the answer begins with thoughts and holds at most
the closing mark. Some models' marks are special tokens (`[THINK]`, harmony channels) that decoding leaves out: kept, or
thoughts and answer would run together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from refusal_lens.core.thought_marks import ends_in_thoughts, is_mark

TAIL = 48
"""Tokens at a prompt's end in which an opening mark with nothing after it must stand."""


def opens_thoughts(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> bool:
    """Whether a rendered prompt ends inside an opened block of thoughts.

    Args:
        tokenizer: The model's tokenizer.
        token_ids: Ids of the rendered prompt, without padding.

    Returns:
        True where the answer begins with thoughts.
    """
    return ends_in_thoughts(str(tokenizer.decode(list(token_ids[-TAIL:]), skip_special_tokens=False)))


def decode_answer(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """Text of an answer without special tokens, those kept that mark thoughts.

    Args:
        tokenizer: The model's tokenizer.
        token_ids: Generated ids.

    Returns:
        The text.
    """
    special, marks = _special(tokenizer)
    if marks.isdisjoint(token_ids):
        return str(tokenizer.decode(list(token_ids), skip_special_tokens=True))
    kept = [token for token in token_ids if token in marks or token not in special]
    return str(tokenizer.decode(kept, skip_special_tokens=False))


@lru_cache(maxsize=8)
def _special(tokenizer: PreTrainedTokenizerBase) -> tuple[frozenset[int], frozenset[int]]:
    """Ids of the special tokens, and of those among them that mark thoughts."""
    texts = {token: item.content for token, item in tokenizer.added_tokens_decoder.items() if item.special}
    harmony = "<|channel|>" in texts.values()  # without channels <|end|> ends a turn
    marks = (token for token, text in texts.items() if is_mark(text, harmony=harmony))
    return frozenset(texts) | frozenset(tokenizer.all_special_ids), frozenset(marks)
