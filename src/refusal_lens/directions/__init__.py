"""Directions: candidates from differences of means, refusal tokens, scores, selection, and the nulls beside them."""

from refusal_lens.directions.candidates import Candidates, import_candidates
from refusal_lens.directions.direction import Direction, import_direction, random_direction, site_of
from refusal_lens.directions.estimate import Estimate, Shape, Speed, Workload, estimate, probe_speed
from refusal_lens.directions.extraction import balanced_halves, extract, mean_activations, shuffled_direction
from refusal_lens.directions.finding import behaving, find_direction
from refusal_lens.directions.foreign import import_foreign
from refusal_lens.directions.formulas import Divergence, refusal_score
from refusal_lens.directions.score_files import CandidateScore, published_rows, read_scores
from refusal_lens.directions.scoring import refusal_scores, score
from refusal_lens.directions.selection import KL_THRESHOLDS, Discarded, Selection, layer_limit, select
from refusal_lens.directions.tokens import RefusalTokens, discover_refusal_tokens

__all__ = [
    "KL_THRESHOLDS",
    "CandidateScore",
    "Candidates",
    "Direction",
    "Discarded",
    "Divergence",
    "Estimate",
    "RefusalTokens",
    "Selection",
    "Shape",
    "Speed",
    "Workload",
    "balanced_halves",
    "behaving",
    "discover_refusal_tokens",
    "estimate",
    "extract",
    "find_direction",
    "import_candidates",
    "import_direction",
    "import_foreign",
    "layer_limit",
    "mean_activations",
    "probe_speed",
    "published_rows",
    "random_direction",
    "read_scores",
    "refusal_score",
    "refusal_scores",
    "score",
    "select",
    "shuffled_direction",
    "site_of",
]
