"""A client for chat endpoints that speak the OpenAI protocol (vLLM, llama.cpp, hosted): many requests, few failures.

Requests run on a few threads; 408, 429, 5xx, dropped connections and time-outs are tried again with growing pauses, and
a `Retry-After` header is honoured. Where no request comes through any more, the rest is not sent. A request that fails for
good gives an error text, never an exception: the caller decides what it means, and is told whether the endpoint failed (ask
again) or the reply says nothing (cut at its limit, withheld, empty). The key comes from an environment variable and is sent
in the header only; it is in no message, no file and no repr, also where the endpoint repeats it; nor is a password that
stands in the URL. Replies can be remembered in a file, so that an interrupted run does not pay twice.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias, cast

import httpx

from refusal_lens.core.progress import tell
from refusal_lens.core.redact import shown_url
from refusal_lens.errors import UserError

KEY_VARIABLE = "REFUSAL_LENS_API_KEY"
_REJECTION = "request rejected:"
_log = logging.getLogger(__name__)
_SHORTEST_SECRET = 6  # a shorter "key" is a placeholder of local servers and may be a word of any reply
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_REJECTED = frozenset({400, 413, 422})  # about this request, as long as others come through

Chat: TypeAlias = tuple[tuple[str, str], ...]
"""Messages as (role, content); a plain text stands for one user message."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request: the text, or why there is none.

    Attributes:
        text: The reply's words.
        error: Why there are none.
        failed: The endpoint is at fault, not the request: asking again may give a reply.
        cut: The text ends at the length limit.
    """

    text: str | None
    error: str | None = None
    failed: bool = False
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Retries:
    """How patient to be.

    Attributes:
        attempts: Tries per request, the first included.
        first_pause: Seconds before the second try; doubles with each try.
        longest_pause: Seconds at most between tries, also where the server asks for more.
        timeout: Seconds to wait for one reply.
    """

    attempts: int = 6
    first_pause: float = 1.0
    longest_pause: float = 60.0
    timeout: float = 60.0


@dataclass
class ChatClient:
    """One endpoint and one model on it.

    Attributes:
        url: Base URL of the API, for example "http://localhost:8000/v1".
        model: Name of the model there; empty asks the endpoint for its first one.
        concurrency: Requests under way at once.
        retries: Patience.
        memory: File of replies already paid for; None remembers nothing.
        key_variable: Environment variable that holds the key.
        answers_of_a_model: Replies are what is measured, not a judge's word: one that was cut counts, and thoughts that the
            server took out are put back before it.
    """

    url: str
    model: str = ""
    concurrency: int = 8
    retries: Retries = field(default_factory=Retries)
    memory: Path | None = None
    key_variable: str = KEY_VARIABLE
    answers_of_a_model: bool = False

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise UserError(f"endpoint {self.url!r} is no http(s) URL; give one like http://localhost:8000/v1")
        if self.concurrency < 1:
            raise UserError(f"concurrency must be at least 1, found {self.concurrency}")
        self.url = self.url.rstrip("/")
        self._pause: Callable[[float], None] = time.sleep
        self._lock = threading.Lock()
        self._in_a_row = 0

    @property
    def shown_url(self) -> str:
        """The URL without user name, password and query, which may be secrets."""
        return shown_url(self.url)

    def resolve_model(self) -> str:
        """The model's name, asked from the endpoint where none was given.

        Returns:
            The name.

        Raises:
            UserError: The endpoint cannot be reached or lists no model.
        """
        if self.model:
            return self.model
        try:
            with self._http() as http:
                answer = http.get("/models")
                answer.raise_for_status()
                data = cast("dict[str, list[dict[str, str]]]", answer.json())
                self.model = data["data"][0]["id"]
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"endpoint {self.shown_url} names no model ({type(error).__name__}); give one with --model"
            ) from error
        return self.model

    def ask_all(
        self,
        prompts: Sequence[str | Chat],
        *,
        max_tokens: int = 256,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Reply]:
        """Send each prompt, temperature 0.

        Args:
            prompts: User messages or whole chats.
            max_tokens: Length limit of a reply.
            progress: Called with (done, all) as replies come in.

        Returns:
            One reply per prompt, in order.
        """
        model = self.resolve_model()
        known = self._recall()
        keys = [self._key(model, prompt, max_tokens) for prompt in prompts]
        self._in_a_row = 0
        waiting = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}
        if waiting:
            with self._http() as http, ThreadPoolExecutor(self.concurrency) as pool:
                jobs = {pool.submit(self._ask, http, model, prompt, max_tokens): key for key, prompt in waiting.items()}
                for done, job in enumerate(as_completed(jobs), start=1):
                    known[jobs[job]] = reply = job.result()
                    self._remember(jobs[job], reply)
                    tell(done + len(keys) - len(waiting), len(keys), "replies")
                    if progress is not None:
                        progress(len(waiting) and done + len(keys) - len(waiting), len(keys))
        replies = [known[key] for key in keys]
        if replies and all(reply.error is not None and reply.error.startswith(_REJECTION) for reply in replies):
            return [replace(reply, failed=True) for reply in replies]
        return replies

    def _http(self) -> httpx.Client:
        key = self._secret()
        if not (key.isascii() and key.isprintable()):
            raise UserError(f"{self.key_variable} holds characters that no HTTP header can carry; set it anew")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
        return httpx.Client(base_url=self.url, headers=headers, timeout=self.retries.timeout, limits=limits)

    def _secret(self) -> str:
        return os.environ.get(self.key_variable, "").strip()

    def _ask(self, http: httpx.Client, model: str, prompt: str | Chat, max_tokens: int) -> Reply:
        if self._in_a_row >= 2 * self.concurrency:
            return Reply(None, "not asked, since the endpoint answered nothing before", failed=True)
        reply = self._try(http, model, prompt, max_tokens)
        with self._lock:
            self._in_a_row = self._in_a_row + 1 if reply.failed else 0
        return reply

    def _try(self, http: httpx.Client, model: str, prompt: str | Chat, max_tokens: int) -> Reply:
        chat = (("user", prompt),) if isinstance(prompt, str) else prompt
        body = {
            "model": model,
            "messages": [{"role": role, "content": content} for role, content in chat],
            "temperature": 0,
            "max_tokens": max_tokens,
        }
        error = "not tried"
        for attempt in range(self.retries.attempts):
            wait = min(self.retries.first_pause * 2**attempt, self.retries.longest_pause)
            try:
                answer = http.post("/chat/completions", json=body)
            except httpx.TimeoutException:
                error = f"no reply within {self.retries.timeout:g} s"
            except httpx.TransportError as problem:
                error = f"connection failed: {type(problem).__name__}"
            else:
                if answer.is_success:
                    of_model = self.answers_of_a_model
                    return _read(answer, secret=self._secret(), max_tokens=max_tokens, of_model=of_model)
                error = f"HTTP {answer.status_code}"
                if answer.status_code in _REJECTED:
                    return Reply(None, f"{_REJECTION} {error}")
                if answer.status_code not in _AGAIN:
                    return Reply(None, error, failed=True)
                asked = retry_after(answer.headers.get("retry-after"), now=time.time())
                wait = min(asked, self.retries.longest_pause) if asked is not None else wait
            if attempt + 1 < self.retries.attempts:
                _log.info("request failed (%s), trying again in %.1f s", error, wait)
                # Threads that failed together must not come back together.
                self._pause(wait * random.uniform(1.0, 1.25))
        return Reply(None, f"{error}, after {self.retries.attempts} tries", failed=True)

    def _key(self, model: str, prompt: str | Chat, max_tokens: int) -> str:
        return hashlib.sha256(json.dumps([self.url, model, prompt, max_tokens]).encode()).hexdigest()

    def _recall(self) -> dict[str, Reply]:
        if self.memory is None or not self.memory.is_file():
            return {}
        return dict(_remembered(self.memory.read_text(encoding="utf-8").splitlines()))

    def _remember(self, key: str, reply: Reply) -> None:
        if self.memory is None or reply.text is None:
            return
        line = json.dumps({"key": key, "text": reply.text, "cut": reply.cut}, ensure_ascii=False) + "\n"
        with self._lock:
            descriptor = os.open(self.memory, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "a", encoding="utf-8") as file:
                file.write(line)


def retry_after(value: str | None, *, now: float) -> float | None:
    """Seconds a `Retry-After` header asks to wait: a number of seconds or an HTTP date.

    Args:
        value: The header's value.
        now: Time of the reply, seconds since the epoch.

    Returns:
        Seconds, not negative, or None without a usable header.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (TypeError, ValueError):
        return None


def _read(answer: httpx.Response, *, secret: str, max_tokens: int, of_model: bool) -> Reply:
    try:
        choice = cast("dict[str, list[dict[str, object]]]", answer.json())["choices"][0]
        message = cast("dict[str, object]", choice["message"])
        content, ended = message.get("content"), choice.get("finish_reason")
        thoughts = message.get("reasoning_content") or message.get("reasoning")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return Reply(None, "malformed reply: no choices[0].message", failed=True)
    if content is not None and not isinstance(content, str):
        return Reply(None, "malformed reply: content is no text", failed=True)
    text, cut = content or "", ended == "length"
    if of_model and isinstance(thoughts, str) and thoughts.strip():
        text = f"<think>{thoughts}{'' if cut and not text else '</think>'}{text}"
    if cut and not of_model:
        return Reply(None, f"reply cut at its limit of {max_tokens} tokens")
    if not text:
        return Reply(None, "reply withheld by the endpoint" if ended == "content_filter" else "empty reply", cut=cut)
    return Reply(text.replace(secret, "***") if len(secret) >= _SHORTEST_SECRET else text, cut=cut)


def _remembered(lines: Iterable[str]) -> Iterable[tuple[str, Reply]]:
    for line in lines:
        try:
            record = cast("dict[str, str]", json.loads(line))
            yield record["key"], Reply(record["text"], cut=bool(record.get("cut")))
        except (ValueError, KeyError, TypeError):
            continue  # the last line of an interrupted run may be cut
