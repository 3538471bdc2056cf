"""Build a judge by its name.

native | encoder:MODEL[#LABELS.toml] | endpoint:URL[#MODEL]
NAME,NAME.. (a panel of these; the first one's verdict is the row's)
wildguard[:MODEL] | polyguard[:MODEL] | qwen3guard[:MODEL], or the last two served: polyguard:URL[#MODEL], qwen3guard:URL[#MODEL]
llamaguard[:MODEL], or served, in a panel only and not first: it says whether an answer is harmful, not whether it refuses
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from refusal_lens.errors import UserError
from refusal_lens.judging.answer import Judge
from refusal_lens.judging.chat import ChatClient
from refusal_lens.judging.encoder import EncoderJudge
from refusal_lens.judging.endpoint import MAX_TOKENS, EndpointJudge
from refusal_lens.judging.guard_formats import Controversial
from refusal_lens.judging.guards import GuardJudge, GuardKind
from refusal_lens.judging.native import NativeJudge
from refusal_lens.judging.panel import PanelJudge, split_panel
from refusal_lens.judging.thinking import ThinkingJudge
from refusal_lens.judging.translated import TranslatedJudge
from refusal_lens.judging.translation import get_translator

JUDGES = ("native", "wildguard", "polyguard", "qwen3guard", "llamaguard", "encoder", "endpoint")


def get_judge(
    name: str,
    *,
    model: str = "",
    url: str = "",
    rubric: Path | None = None,
    batch_size: int = 8,
    concurrency: int = 8,
    memory: Path | None = None,
    translate: str = "",
    thinking: str = "auto",
    max_tokens: int = MAX_TOKENS,
    timeout: float = 60.0,
    keep_going: bool = False,
    labels: Path | None = None,
    controversial: Controversial = "strict",
) -> Judge:
    """Build a judge; it reads answers without their thoughts.

    Args:
        name: One of the forms above, or several joined by commas.
        model: Model of a guard, an encoder or on an endpoint, where the name does not say.
        url: Base URL of an endpoint, where the name does not say.
        rubric: Rubric file of an endpoint judge, None for the shipped one.
        batch_size: Answers a guard or encoder reads at once.
        concurrency: Requests to an endpoint at once.
        memory: File of endpoint replies already paid for.
        translate: Translator that puts answers into English first: hf:MODEL or endpoint:URL[#MODEL]; empty for none.
        thinking: How thoughts stand in the answers: auto, none, think, harmony or a regular expression.
        max_tokens: Length limit of an endpoint's reply, its thoughts included.
        timeout: Seconds to wait for one reply of an endpoint.
        keep_going: Mark answers unscored that an endpoint gave no reply to, instead of raising.
        labels: TOML file with the meaning of an encoder's labels.
        controversial: qwen3guard: whether "Controversial" counts as harmful (strict) or not (loose).

    Returns:
        The judge. Nothing is loaded and nothing is asked before it judges.

    Raises:
        UserError: No such judge, or an option it needs is missing.
    """
    names = split_panel(name, JUDGES)
    if names[0].partition(":")[0] == "llamaguard":
        raise UserError(
            "llamaguard says whether an answer is harmful, not whether it refuses: name it second, native,llamaguard"
        )
    if len(set(names)) < len(names):
        raise UserError(f"--judge {name}: the same judge twice; name different judges")
    one = partial(
        _one,
        model=model,
        url=url,
        rubric=rubric,
        batch_size=batch_size,
        concurrency=concurrency,
        memory=memory,
        thinking=thinking,
        max_tokens=max_tokens,
        timeout=timeout,
        keep_going=keep_going,
        labels=labels,
        controversial=controversial,
    )
    if len(names) == 1:
        return one(names[0], translate=translate)
    # In a panel the native judge reads every answer as it stands: it needs no translation.
    return PanelJudge([one(each, translate="" if each == "native" else translate) for each in names])


def _one(
    name: str,
    *,
    model: str,
    url: str,
    rubric: Path | None,
    batch_size: int,
    concurrency: int,
    memory: Path | None,
    translate: str,
    thinking: str,
    max_tokens: int,
    timeout: float,
    keep_going: bool,
    labels: Path | None,
    controversial: Controversial,
) -> Judge:
    """One judge, read without thoughts."""
    kind, _, rest = name.partition(":")
    where, _, after = rest.partition("#")
    found: Judge
    if kind == "native" and not rest:
        found = NativeJudge()
    elif kind == "encoder":
        file = Path(after) if after else labels
        found = EncoderJudge(where or model, labels=file, batch_size=batch_size)
    elif kind not in JUDGES or kind == "native":
        raise UserError(f"unknown judge {name!r}; known: {', '.join(JUDGES)}")
    else:
        served = where.startswith(("http://", "https://"))
        client = None
        if served or url or kind == "endpoint":
            address = where if served or (kind == "endpoint" and where) else url
            if not address:
                raise UserError("the endpoint judge needs a URL, e.g. endpoint:http://localhost:8000/v1")
            client = ChatClient(address, (after if served else where) or model, concurrency=concurrency, memory=memory)
            client.retries = replace(client.retries, timeout=timeout)
        if kind == "endpoint" and client is not None:
            found = EndpointJudge(client, rubric=rubric, max_tokens=max_tokens, keep_going=keep_going)
        else:
            found = GuardJudge(
                cast("GuardKind", kind),
                model=rest or model,
                batch_size=batch_size,
                controversial=controversial,
                client=client,
                keep_going=keep_going,
            )
    if not translate:
        return ThinkingJudge(found, thinking=thinking)
    translator = get_translator(translate, memory=memory)
    return TranslatedJudge(found, translator, thinking=thinking, keep_going=keep_going)
