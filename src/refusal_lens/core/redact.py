"""Secrets never reach a file or a log: known shapes of tokens, and the values of options and fields that hold them.

Masked: tokens with a known prefix (Hugging Face, OpenAI-like, GitHub, AWS, Slack), JWTs, passwords inside URLs, signed URL
queries, values after options such as `--api-key` or `--token`, and fields with such names. What is not recognisable as a
secret cannot be found here; commands that take a secret should take the name of an environment variable instead.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from refusal_lens.types import JsonValue

MASK = "***"

_SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_\-]{12,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|xox[abprs]-[A-Za-z0-9\-]{8,}"
    r"|A(?:KIA|SIA)[A-Z0-9]{16}|AIza[A-Za-z0-9_\-]{30,}|eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*)"
)  # a token begins where a word begins: "risk-assessment-models" is a folder, and a masked folder cannot be resumed
_URL_USER = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_QUERY = re.compile(r"(?i)([?&][^=&\s]*(?:token|key|secret|signature|password|credential)[^=&\s]*=)[^&\s]+")
_SECRET_NAME = re.compile(
    r"(?i)(?:^|[_\-.])(?:api[_\-]?keys?|token|secrets?|password|passwd|authorization|credentials?|access[_\-]?key)$"
)  # not "tokens"
_ASSIGNED = re.compile(
    r"(?i)(\b[a-z0-9_\-]*(?:api[_\-]?key|secret|password|passwd|authorization|access[_\-]?key|auth[_\-]?token)\b[\"']?\s*[=:]\s*[\"']?)(?:bearer\s+)?[^\s\"',;&]+"
)
_OPTION = re.compile(
    r"(?i)(--?[a-z0-9_\-]*(?:api[_\-]?key|token|secret|password|passwd|access[_\-]?key)[ =]+)[^\s-]\S*"
)
_BEARER = re.compile(r"(?i)(\bbearer\s+)[A-Za-z0-9._\-]{8,}")


def redact_text(text: str) -> str:
    """The text with everything that looks like a secret masked."""
    text = _SHAPES.sub(MASK, text)
    text = _URL_USER.sub(MASK, text)
    text = _QUERY.sub(rf"\1{MASK}", text)
    text = _OPTION.sub(rf"\1{MASK}", text)
    text = _BEARER.sub(rf"\1{MASK}", text)
    return _ASSIGNED.sub(rf"\1{MASK}", text)


def shown_url(url: str) -> str:
    """An address as it may be shown and stored: without user name, password, query and fragment, which may be secrets.

    Args:
        url: The address.

    Returns:
        Scheme, host, port and path; an address that cannot be taken apart is masked by its looks.

    Example:
        >>> shown_url("https://me:secret@host:8000/v1?token=t")
        'https://host:8000/v1'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return redact_text(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def redact(value: JsonValue) -> JsonValue:
    """A JSON value with secrets masked in strings, after secret options, and under secret field names.

    Args:
        value: Any JSON value, e.g. a command line (list of strings) or a config.

    Returns:
        The same shape; nothing is dropped.
    """
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, list | tuple):
        return _redact_list(list(value))
    if isinstance(value, dict):
        return {
            name: MASK if item is not None and isinstance(item, str) and _SECRET_NAME.search(name) else redact(item)
            for name, item in value.items()
        }
    return value


def _redact_list(items: list[JsonValue]) -> list[JsonValue]:
    masked: list[JsonValue] = []
    secret_next = False
    for item in items:
        if secret_next and isinstance(item, str):
            masked.append(MASK)
            secret_next = False
            continue
        secret_next = (
            isinstance(item, str) and item.startswith("-") and "=" not in item and _SECRET_NAME.search(item) is not None
        )
        if (
            isinstance(item, str)
            and item.startswith("-")
            and "=" in item
            and _SECRET_NAME.search(item.partition("=")[0])
        ):
            masked.append(item.partition("=")[0] + "=" + MASK)
        else:
            masked.append(redact(item))
    return masked
