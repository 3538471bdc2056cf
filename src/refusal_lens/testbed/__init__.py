"""The testbed: a 14-language corpus and four small models whose truth is known, to try the tool on.

It validates the tool, not the paper: that refusal is shared in two of the models was built in. Nothing here imports
torch until a model is trained or evaluated.
"""

from __future__ import annotations

from refusal_lens.testbed.lexicon import corpus_languages
from refusal_lens.testbed.prompts import load_novel, load_prompts, on_topic
from refusal_lens.testbed.registry import Truth, base_of, card, locate, names, truth

__all__ = [
    "Truth",
    "base_of",
    "card",
    "corpus_languages",
    "load_novel",
    "load_prompts",
    "locate",
    "names",
    "on_topic",
    "truth",
]
