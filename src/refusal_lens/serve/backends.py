"""Who answers what the gate lets through: a transformers model here, or an OpenAI-compatible endpoint elsewhere.

Both give text piece by piece. The local one writes greedily, one request at a time: an example to read, no inference engine.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import httpx
import torch

from refusal_lens.errors import EndpointError
from refusal_lens.model import LensModel
from refusal_lens.monitor import Chat
from refusal_lens.monitor.reading import chat_ids
from refusal_lens.types import JsonValue

DONE = "[DONE]"


@runtime_checkable
class Backend(Protocol):
    """Answers chats."""

    @property
    def name(self) -> str:
        """What the client is told as the model's name."""
        ...

    def answer(self, chat: Chat, options: Mapping[str, JsonValue], authorization: str | None) -> Iterator[str]:
        """Pieces of the answer, as they come.

        Args:
            chat: The messages.
            options: `max_tokens` and whatever else the client sent.
            authorization: The client's Authorization header.

        Returns:
            Pieces of text.
        """
        ...


@dataclass
class Local:
    """A model in this process."""

    model: LensModel
    lock: threading.Lock
    limit: int = 256

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.model.provenance.spec

    def answer(self, chat: Chat, options: Mapping[str, JsonValue], authorization: str | None) -> Iterator[str]:  # noqa: ARG002
        """As in `Backend`; the client's header plays no part."""
        from transformers import TextIteratorStreamer

        asked = options.get("max_tokens") or options.get("max_completion_tokens")
        limit = min(asked, self.limit) if isinstance(asked, int) and asked > 0 else self.limit
        streamer = TextIteratorStreamer(self.model.tokenizer, skip_prompt=True, skip_special_tokens=True)  # pyright: ignore[reportArgumentType]
        ids = torch.tensor(chat_ids(self.model, [chat]), device=self.model.device)

        def write() -> None:
            try:
                with self.lock, torch.no_grad():
                    self.model.hf.generate(  # pyright: ignore[reportCallIssue]
                        input_ids=ids,
                        attention_mask=torch.ones_like(ids),
                        max_new_tokens=limit,
                        do_sample=False,
                        pad_token_id=self.model.pad_id,
                        eos_token_id=list(self.model.end_ids),
                        streamer=streamer,
                    )
            finally:
                streamer.end()

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        yield from (piece for piece in cast("Iterator[str]", streamer) if piece)
        thread.join()


@dataclass
class Upstream:
    """An OpenAI-compatible endpoint; the monitor's model is another one, here."""

    url: str
    name: str
    timeout: float = 120.0

    def answer(self, chat: Chat, options: Mapping[str, JsonValue], authorization: str | None) -> Iterator[str]:
        """As in `Backend`; raises EndpointError where the endpoint does not answer."""
        body = {**options, "model": self.name, "messages": [dict(message) for message in chat], "stream": True}
        headers = {"Authorization": authorization} if authorization else {}
        address = f"{self.url.rstrip('/')}/chat/completions"
        try:
            with httpx.stream("POST", address, json=body, headers=headers, timeout=self.timeout) as reply:
                if reply.status_code != 200:
                    raise EndpointError(f"the upstream endpoint answered {reply.status_code}")
                for line in reply.iter_lines():
                    data = line.removeprefix("data:").strip()
                    if not line.startswith("data:") or not data:
                        continue
                    if data == DONE:
                        return
                    piece = _piece(data)
                    if piece:
                        yield piece
        except httpx.HTTPError as error:
            raise EndpointError(f"the upstream endpoint gave no answer ({type(error).__name__})") from None


def _piece(data: str) -> str:
    try:
        return str(json.loads(data)["choices"][0]["delta"].get("content") or "")
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
