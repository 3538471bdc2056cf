"""An example server: chat completions behind a monitor, for a model here or any OpenAI-compatible endpoint. Extra: serve."""

from refusal_lens.serve.app import create_app
from refusal_lens.serve.backends import Backend, Local, Upstream
from refusal_lens.serve.guard import Guard, Settings

__all__ = ["Backend", "Guard", "Local", "Settings", "Upstream", "create_app"]
