"""The web application: POST /v1/chat/completions behind a guard, streaming or whole; health, drift and a kill switch.

client -> decide (score, log) -> refused: the refusal as an ordinary completion, finish_reason "content_filter"
                              -> let through: backend -> pieces
"""

# No postponed annotations here: FastAPI reads them when the routes are made.

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI, Header, HTTPException
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from refusal_lens.errors import DataError, EndpointError
from refusal_lens.serve.backends import DONE, Backend
from refusal_lens.serve.guard import Decision, Guard


class Message(BaseModel):
    """A message with a text; parts of a list are joined."""

    model_config = ConfigDict(extra="ignore")
    role: str = Field(min_length=1)
    content: str | list[dict[str, Any]] | None = None

    def text(self) -> str:
        """Its text."""
        if isinstance(self.content, list):
            return "\n".join(str(part.get("text", "")) for part in self.content if part.get("type") == "text")
        return self.content or ""


class Request(BaseModel):
    """What a client sends; fields beyond these go on to an upstream endpoint as they are."""

    model_config = ConfigDict(extra="allow")
    messages: list[Message] = Field(min_length=1)
    stream: bool = False


def create_app(guard: Guard, backend: Backend) -> FastAPI:
    """Make the application.

    Args:
        guard: Monitor, gate, log and switch.
        backend: Who answers.

    Returns:
        An ASGI application.

    Example:
        uvicorn.run(create_app(Guard(monitor, model), Local(model, guard.lock)))
    """
    app = FastAPI(title="RefusalLens guard", docs_url=None, redoc_url=None)

    @app.post("/v1/chat/completions", response_model=None)
    def completions(request: Request, authorization: str | None = Header(default=None)) -> Response:
        if guard.is_stopped():
            raise HTTPException(503, "stopped by the operator")
        chat = [{"role": message.role, "content": message.text()} for message in request.messages]
        name = f"chatcmpl-{secrets.token_hex(12)}"
        try:
            decision = guard.decide(name, chat)
        except DataError as error:
            raise HTTPException(400, str(error)) from None
        pieces = _guarded(guard, _answer(decision, backend, request, chat, authorization))
        reason = "stop" if decision.refusal is None else "content_filter"
        if request.stream:
            return StreamingResponse(_events(name, backend.name, pieces, reason), media_type="text/event-stream")
        try:
            text = "".join(pieces)
        except EndpointError as error:
            raise HTTPException(502, str(error)) from None
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
        return JSONResponse(_object(name, backend.name, "chat.completion", choice))

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": backend.name, "object": "model", "owned_by": "refusal-lens"}]}

    @app.get("/health")
    def health() -> dict[str, Any]:
        far = {code: {"distance": round(value, 4), "n": n} for code, (value, n) in guard.drift.distances().items()}
        return {"stopped": guard.is_stopped(), "drift": far, "alarms": guard.drift.alarms()}

    @app.post("/admin/{switch}")
    def admin(switch: str, authorization: str | None = Header(default=None)) -> dict[str, Any]:
        token = guard.settings.admin_token
        if not token or not secrets.compare_digest((authorization or "").encode(), f"Bearer {token}".encode()):
            raise HTTPException(403, "needs the admin token")
        if switch not in {"stop", "start"}:
            raise HTTPException(404, "stop or start")
        guard.stopped = switch == "stop"
        return {"stopped": guard.is_stopped()}

    return app


def _answer(
    decision: Decision, backend: Backend, request: Request, chat: list[dict[str, str]], authorization: str | None
) -> Iterator[str]:
    if decision.refusal is not None:
        return iter([decision.refusal])
    options = request.model_extra or {}
    return backend.answer(chat, {key: value for key, value in options.items() if key != "model"}, authorization)


def _guarded(guard: Guard, pieces: Iterator[str]) -> Iterator[str]:
    """The pieces until somebody throws the switch."""
    for piece in pieces:
        if guard.is_stopped():
            return
        yield piece


def _events(name: str, model: str, pieces: Iterator[str], reason: str) -> Iterator[str]:
    try:
        for piece in pieces:
            choice = {"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}
            yield f"data: {json.dumps(_object(name, model, 'chat.completion.chunk', choice))}\n\n"
        last = {"index": 0, "delta": {}, "finish_reason": reason}
        yield f"data: {json.dumps(_object(name, model, 'chat.completion.chunk', last))}\n\n"
    except EndpointError as error:
        yield f"data: {json.dumps({'error': {'message': str(error)}})}\n\n"
    yield f"data: {DONE}\n\n"


def _object(name: str, model: str, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "object": kind, "created": int(time.time()), "model": model, "choices": [choice]}
