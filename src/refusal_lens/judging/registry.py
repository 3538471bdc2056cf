"""Build a judge by its name: native, wildguard[:MODEL], polyguard[:MODEL], endpoint:URL[#MODEL]."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from refusal_lens.errors import UserError
from refusal_lens.judging.answer import Judge
from refusal_lens.judging.chat import ChatClient
from refusal_lens.judging.endpoint import MAX_TOKENS, EndpointJudge
from refusal_lens.judging.guards import GuardJudge
from refusal_lens.judging.native import NativeJudge
from refusal_lens.judging.thinking import ThinkingJudge

JUDGES = ("native", "wildguard", "polyguard", "endpoint")


def get_judge(
    name: str,
    *,
    model: str = "",
    url: str = "",
    rubric: Path | None = None,
    batch_size: int = 8,
    concurrency: int = 8,
    memory: Path | None = None,
    thinking: str = "auto",
    max_tokens: int = MAX_TOKENS,
    timeout: float = 60.0,
    keep_going: bool = False,
) -> Judge:
    """Build a judge; it reads answers without their thoughts.

    Args:
        name: "native", "wildguard", "polyguard" or "endpoint"; the guards may carry their model ("wildguard:FOLDER") and
            the endpoint its URL and model ("endpoint:http://localhost:8000/v1#NAME").
        model: Model of a guard or on an endpoint, where the name does not say.
        url: Base URL of an endpoint, where the name does not say.
        rubric: Rubric file of an endpoint judge, None for the shipped one.
        batch_size: Answers a guard reads at once.
        concurrency: Requests to an endpoint at once.
        memory: File of endpoint replies already paid for.
        thinking: How thoughts stand in the answers: auto, none, think, harmony or a regular expression.
        max_tokens: Length limit of an endpoint's reply, its thoughts included.
        timeout: Seconds to wait for one reply of an endpoint.
        keep_going: Mark answers unscored that an endpoint gave no reply to, instead of raising.

    Returns:
        The judge. Nothing is loaded and nothing is asked before it judges.

    Raises:
        UserError: No such judge, or an option it needs is missing.
    """
    kind, _, rest = name.partition(":")
    found: Judge
    if kind == "native" and not rest:
        found = NativeJudge()
    elif kind == "wildguard":
        found = GuardJudge("wildguard", model=rest or model, batch_size=batch_size)
    elif kind == "polyguard":
        found = GuardJudge("polyguard", model=rest or model, batch_size=batch_size)
    elif kind == "endpoint":
        where, _, there = rest.partition("#")
        if not (where or url):
            raise UserError("the endpoint judge needs a URL, e.g. endpoint:http://localhost:8000/v1")
        client = ChatClient(where or url, there or model, concurrency=concurrency, memory=memory)
        client.retries = replace(client.retries, timeout=timeout)
        found = EndpointJudge(client, rubric=rubric, max_tokens=max_tokens, keep_going=keep_going)
    else:
        raise UserError(f"unknown judge {name!r}; known: {', '.join(JUDGES)}")
    return ThinkingJudge(found, thinking=thinking)
