"""A served model as MODEL: `endpoint:URL#NAME`, any model behind an OpenAI-compatible API, for a baseline alone.

Only answers can be had of it: nothing is ablated, added or measured inside. What identifies it is its name at its address,
so a model that changes behind the same name looks the same; and at temperature 0 a server need not answer twice alike. The
key comes from REFUSAL_LENS_MODEL_API_KEY, else from REFUSAL_LENS_API_KEY, and is written nowhere.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from refusal_lens.config import AuditConfig
from refusal_lens.core.digests import digest_bytes
from refusal_lens.core.redact import redact_text, shown_url
from refusal_lens.errors import UserError
from refusal_lens.judging import KEY_VARIABLE, ChatClient, require_replies

log = logging.getLogger(__name__)

SERVED = "endpoint:"
MODEL_KEY = "REFUSAL_LENS_MODEL_API_KEY"
VERSION = 1
"""Raised when the same prompt is asked in another way."""


@dataclass(frozen=True)
class ServedAnswer:
    """What came back for one prompt; thoughts that came apart from the text stand before it in `<think>` tags."""

    text: str
    finished: bool


@dataclass(frozen=True)
class ServedModel:
    """A model at an address.

    Attributes:
        url: Base URL of the API.
        name: The model's name there.
        concurrency: Requests under way at once.
        memory: File of replies that came, so that a task that failed asks only the others again; None remembers nothing.
    """

    url: str
    name: str
    concurrency: int
    memory: Path | None = None

    @property
    def digest(self) -> str:
        """What stands for the model in keys: no weights are known, only where it answers, and by which name."""
        return digest_bytes(f"served {VERSION}\n{self.url}\n{self.name}".encode())

    def answers(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[ServedAnswer]:
        """Ask each prompt as a user's message, temperature 0.

        Args:
            prompts: The prompts.
            max_new_tokens: Length limit of an answer.

        Returns:
            One answer per prompt, in order. A request that the endpoint rejects, or withholds the reply of, gives no text.

        Raises:
            EndpointError: Some requests got no reply.
        """
        replies = self._client().ask_all(list(prompts), max_tokens=max_new_tokens)
        require_replies(replies, where=self.url)
        if silent := [reply.error for reply in replies if reply.text is None]:
            log.warning("%d of %d prompts got no text from %s (%s)", len(silent), len(replies), self.url, silent[0])
        return [ServedAnswer(reply.text or "", not reply.cut) for reply in replies]

    def check(self) -> None:
        """Ask one word, so that a wrong address or key shows before a run directory is made.

        Raises:
            EndpointError: No reply.
        """
        require_replies(replace(self, memory=None)._client().ask_all(["Hello"], max_tokens=1), where=self.url)

    def _client(self) -> ChatClient:
        variable = MODEL_KEY if os.environ.get(MODEL_KEY) else KEY_VARIABLE
        return ChatClient(
            self.url,
            self.name,
            concurrency=self.concurrency,
            memory=self.memory,
            key_variable=variable,
            answers_of_a_model=True,
        )


def served_model(config: AuditConfig, *, memory: Path | None = None) -> ServedModel | None:
    """The served model that an audit names; None where it names one with weights.

    Args:
        config: The audit.
        memory: File of replies that came.

    Returns:
        The model, not asked anything yet.

    Raises:
        UserError: The audit asks more of it than answers, or its address is none, or holds a secret.
    """
    spec = config.model.spec
    if not spec.startswith(SERVED):
        return None
    url, _, name = spec.removeprefix(SERVED).partition("#")
    url = url.rstrip("/")
    if not url.startswith(("http://", "https://")) or not urlsplit(url).netloc or not name:
        raise UserError(
            f"{redact_text(spec)}: a served model is endpoint:URL#NAME, like endpoint:http://localhost:8000/v1#my-model"
        )
    if shown_url(url) != url or redact_text(name) != name:
        raise UserError(f"{shown_url(url)}: the address or the name holds a secret; give the key as {MODEL_KEY}")
    if not config.baseline_only:
        raise UserError(
            f"{spec} is served: its inside cannot be reached, so no direction can be found in it. Add --baseline-only to "
            "measure its answers, or name its weights (a folder or a hub id)"
        )
    wanted = config.model
    inside = {
        "--revision": wanted.revision is not None,
        "--chat-template": wanted.chat_template is not None,
        "--dtype": wanted.dtype != "auto",
        "--thinking": wanted.thinking != "auto",
        "--executor ray": config.transport.executor == "ray",
        "--stop-when-decided": config.generation.stop_when_decided,
    }
    if asked := [option for option, given in inside.items() if given]:
        raise UserError(f"{', '.join(asked)}: means nothing for {spec}, which its server runs; leave it out")
    return ServedModel(url, name, config.transport.concurrency, memory)
