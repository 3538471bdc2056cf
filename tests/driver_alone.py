"""The driver without the rest of the pipeline: importing `refusal_lens.pipeline` brings torch, which the driver does not need.

Tests of executors and of the driver start many processes; this keeps each of them quick.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import refusal_lens

_NAME = "refusal_lens_driver_alone"
_FILE = Path(refusal_lens.__file__).parent / "pipeline" / "driver.py"
_spec = importlib.util.spec_from_file_location(_NAME, _FILE)
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules[_NAME] = _module
_spec.loader.exec_module(_module)

run_tasks = _module.run_tasks
RunSummary = _module.RunSummary
