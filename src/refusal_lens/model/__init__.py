"""The model room: the only one that knows transformers. Load, locate, render, record, generate, self-check."""

from refusal_lens.model.answers import Generated
from refusal_lens.model.batches import Batch, BatchSize, is_out_of_memory, run_shrinking
from refusal_lens.model.checks import layer_error, placement_error
from refusal_lens.model.edit import FULL_PRECISION, SITES, Edit, Intervention, Site
from refusal_lens.model.engine import ENGINE, Engine, EngineName
from refusal_lens.model.fit import too_long
from refusal_lens.model.folding import FoldPlan, fold_plan, folding
from refusal_lens.model.forward import next_token_logits, record
from refusal_lens.model.generate import generate
from refusal_lens.model.hooking import edited
from refusal_lens.model.layout import Block, Layout, hidden_input, hidden_output
from refusal_lens.model.lens import LensModel, ModelProvenance
from refusal_lens.model.load import assemble, check_source, identify, load_model, resolve_device, resolve_dtype
from refusal_lens.model.outline import Outline, outline
from refusal_lens.model.projection import in_float64, set_projection, unit
from refusal_lens.model.source import fingerprint, locate_source
from refusal_lens.model.tokens import PROBES, replaced_by_type

__all__ = [
    "ENGINE",
    "FULL_PRECISION",
    "PROBES",
    "SITES",
    "Batch",
    "BatchSize",
    "Block",
    "Edit",
    "Engine",
    "EngineName",
    "FoldPlan",
    "Generated",
    "Intervention",
    "Layout",
    "LensModel",
    "ModelProvenance",
    "Outline",
    "Site",
    "assemble",
    "check_source",
    "edited",
    "fingerprint",
    "fold_plan",
    "folding",
    "generate",
    "hidden_input",
    "hidden_output",
    "identify",
    "in_float64",
    "is_out_of_memory",
    "layer_error",
    "load_model",
    "locate_source",
    "next_token_logits",
    "outline",
    "placement_error",
    "record",
    "replaced_by_type",
    "resolve_device",
    "resolve_dtype",
    "run_shrinking",
    "set_projection",
    "too_long",
    "unit",
]
