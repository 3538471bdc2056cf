"""The one configuration tree of an audit, and how it is read; see `settings` and `reading`."""

from __future__ import annotations

from refusal_lens.config.reading import GATE, parse_config, read_gate, read_settings
from refusal_lens.config.settings import (
    QUICK,
    SCHEMA_VERSION,
    AuditConfig,
    DataConfig,
    DirectionConfig,
    GateConfig,
    GenerationConfig,
    GeometryConfig,
    InterventionConfig,
    ModelConfig,
    Transport,
)

__all__ = [
    "GATE",
    "QUICK",
    "SCHEMA_VERSION",
    "AuditConfig",
    "DataConfig",
    "DirectionConfig",
    "GateConfig",
    "GenerationConfig",
    "GeometryConfig",
    "InterventionConfig",
    "ModelConfig",
    "Transport",
    "parse_config",
    "read_gate",
    "read_settings",
]
