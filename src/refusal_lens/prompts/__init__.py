"""Prompts: PolyRefuse and other sets, one's own files, sampling; getting, checking and building the data.

No model and no torch here.
"""

from __future__ import annotations

from refusal_lens.prompts.cell import AbsentCell, Cell, check_language
from refusal_lens.prompts.files import MissingColumnError, PromptFile, load_file, read_prompts, said
from refusal_lens.prompts.grid import Grid, Overlap, load_grid
from refusal_lens.prompts.identity import base_id
from refusal_lens.prompts.sampling import sample
from refusal_lens.prompts.sets import PromptSet, load_prompts, prompt_sets, without_overlap
from refusal_lens.prompts.table import PromptTable, load_prompt_table

__all__ = [
    "AbsentCell",
    "Cell",
    "Grid",
    "MissingColumnError",
    "Overlap",
    "PromptFile",
    "PromptSet",
    "PromptTable",
    "base_id",
    "check_language",
    "load_file",
    "load_grid",
    "load_prompt_table",
    "load_prompts",
    "prompt_sets",
    "read_prompts",
    "said",
    "sample",
    "without_overlap",
]
