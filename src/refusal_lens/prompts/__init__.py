"""Prompts: PolyRefuse and other sets, one's own files, sampling; getting, checking and building the data.

No model and no torch here.
"""

from __future__ import annotations

from refusal_lens.prompts.loading.cell import AbsentCell, Cell, base_id, check_language
from refusal_lens.prompts.loading.own_file import MissingColumnError, PromptFile, load_file, read_prompts, said
from refusal_lens.prompts.loading.own_table import PromptTable, load_prompt_table
from refusal_lens.prompts.loading.sets import PromptSet, load_prompts, prompt_sets, sample, without_overlap

__all__ = [
    "AbsentCell",
    "Cell",
    "MissingColumnError",
    "PromptFile",
    "PromptSet",
    "PromptTable",
    "base_id",
    "check_language",
    "load_file",
    "load_prompt_table",
    "load_prompts",
    "prompt_sets",
    "read_prompts",
    "said",
    "sample",
    "without_overlap",
]
