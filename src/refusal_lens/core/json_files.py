"""Reading JSON that somebody else may have broken: a value of the expected shape, or one message that says what is wrong.

The error's class and the advice at its end belong to the caller: the same broken file is a `ModelError` in a model's
folder and a `RunError` in a run. Python's parser also fails on nesting beyond its recursion limit and on half surrogate
pairs; both are caught here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from refusal_lens.errors import DataError, LensError
from refusal_lens.types import JsonValue


def parse_json(text: str | bytes, where: str, *, error: type[LensError] = DataError, advice: str = "") -> JsonValue:
    """Parse one JSON document.

    Args:
        text: The document; bytes are UTF-8, with or without a byte-order mark.
        where: Its origin, for messages.
        error: Class of the error.
        advice: What to do about a broken document, the end of the message.

    Returns:
        The value.

    Raises:
        LensError: Of the class `error`: broken (with line and column), not UTF-8, or nested too deeply.

    Example:
        >>> parse_json('{"a": 1}', "example")
        {'a': 1}
    """
    end = f"; {advice}" if advice else ""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return json.loads(text)
    except UnicodeDecodeError as fault:
        raise error(f"{where}: not UTF-8 (byte {fault.start}){end}") from None
    except json.JSONDecodeError as fault:
        raise error(f"{where}: broken JSON at line {fault.lineno}, column {fault.colno} ({fault.msg}){end}") from None
    except RecursionError:
        raise error(f"{where}: JSON nested too deeply{end}") from None
    except ValueError as fault:  # a number with more digits than Python converts
        raise error(f"{where}: broken JSON ({fault}){end}") from None


def parse_object(
    text: str | bytes, where: str, *, error: type[LensError] = DataError, advice: str = ""
) -> dict[str, JsonValue]:
    """Parse one JSON object; arguments and errors as in `parse_json`, any other value is an error too."""
    value = parse_json(text, where, error=error, advice=advice)
    if not isinstance(value, dict):
        end = f"; {advice}" if advice else ""
        raise error(f"{where}: not a JSON object but {kind_of(value)}{end}")
    return value


def read_json(path: Path, *, error: type[LensError] = DataError, advice: str = "") -> JsonValue:
    """Read a JSON file; arguments and errors as in `parse_json`, a file that cannot be read is an error too."""
    return parse_json(_read(path, error, advice), str(path), error=error, advice=advice)


def read_object(path: Path, *, error: type[LensError] = DataError, advice: str = "") -> dict[str, JsonValue]:
    """Read a file that holds one JSON object; arguments and errors as in `read_json`."""
    return parse_object(_read(path, error, advice), str(path), error=error, advice=advice)


def kind_of(value: object) -> str:
    """What a JSON value is, in JSON's words."""
    kinds: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        type(None): "null",
    }
    return kinds.get(type(value), "a number")


def pretty_json(content: Mapping[str, JsonValue]) -> bytes:
    """A JSON object for people: indented, sorted, one line end; what is not encodable is escaped."""
    return json.dumps(dict(content), indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def _read(path: Path, error: type[LensError], advice: str) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as fault:  # ValueError: a null byte in the name
        why = (fault.strerror if isinstance(fault, OSError) else None) or str(fault)
        raise error(f"{path}: cannot be read ({why}){f'; {advice}' if advice else ''}") from None
