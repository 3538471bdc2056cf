"""The engines room: engines made for serving that answer in place of transformers. Imported only when asked for."""

from refusal_lens.engines.vllm_engine import VllmEngine, is_installed

__all__ = ["VllmEngine", "is_installed"]
