"""Fetching one file over HTTP(S) so that no cut connection costs more than the bytes in flight.

Steps: ask for what is missing (`Range: bytes=N-`); append a 206 that begins at N, start over on a 200 or 416; on a cut
connection or a busy server wait and ask again; stop when the body is longer than it can be. Redirects are followed to
http and https only; proxies come from the environment, except for this machine itself.

Does not decide whether the bytes are right: the caller compares digests.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from refusal_lens.core.files import storing
from refusal_lens.core.redact import shown_url
from refusal_lens.errors import DataError

logger = logging.getLogger(__name__)

OFFLINE = (
    "check the connection and the proxy settings, or fetch the files elsewhere and pass --from ARCHIVE or --from DIR"
)

_ATTEMPTS = 4
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d*/(\d+|\*)")
_LOOPBACK = ("all://127.0.0.1", "all://localhost", "all://[::1]")


class UnreachableError(DataError):
    """A server that gives no usable answer after several attempts: other files from it need not be tried."""


class _AgainError(Exception):
    """The transfer stopped early for a reason that may pass."""


def open_client() -> httpx.Client:
    """An HTTP client with our limits; use it as a context manager."""
    return httpx.Client(
        follow_redirects=True,
        timeout=httpx.Timeout(30.0, connect=15.0),
        headers={"Accept-Encoding": "identity", "User-Agent": "refusal-lens"},
        mounts=dict.fromkeys(_LOOPBACK),
    )


def fetch(
    client: httpx.Client,
    url: str,
    part: Path,
    *,
    limit: int,
    size: int | None = None,
    progress: Callable[[int], None] | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Fetch a file, going on from what is already there."""
    failures = 0
    while True:
        before = _size(part)
        try:
            _stream(client, url, part, limit=limit, progress=progress)
            if size is not None and _size(part) < size:
                raise _AgainError(f"only {_size(part):,} of {size:,} bytes came")  # noqa: TRY301
        except (_AgainError, httpx.TransportError) as error:
            if isinstance(error, httpx.UnsupportedProtocol):
                raise DataError(f"{shown_url(url)}: {error}; only http and https are fetched") from None
            failures = 1 if _size(part) > before else failures + 1
            if failures >= _ATTEMPTS:
                raise UnreachableError(
                    f"{shown_url(url)}: no answer after {failures} attempts ({_reason(error)}); {OFFLINE}"
                ) from None
            logger.info("%s: %s, asking again", shown_url(url), _reason(error))
            pause(min(0.25 * 2**failures, 10.0))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DataError(f"{shown_url(url)}: {_reason(error)}; check the address") from None
        else:
            return


def _stream(client: httpx.Client, url: str, part: Path, *, limit: int, progress: Callable[[int], None] | None) -> None:
    have = _size(part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    with client.stream("GET", url, headers=headers) as response:
        if have and not _continues(response, have):
            if response.status_code in {206, 416}:
                part.unlink(missing_ok=True)
                raise _AgainError("the server could not continue the transfer")
            have = 0
        if response.status_code in _BUSY:
            raise _AgainError(f"the server answered {response.status_code}")
        if response.status_code not in {200, 206}:
            raise DataError(f"{shown_url(url)}: the server answered {response.status_code}; check the address")
        with storing(part):
            part.parent.mkdir(parents=True, exist_ok=True)
            stream = part.open("ab" if have else "wb")
        with stream:
            for (
                chunk
            ) in response.iter_bytes():  # As received: a chunk size would hold back, and lose, what came before a cut.
                have += len(chunk)
                if have > limit:
                    stream.close()
                    part.unlink(missing_ok=True)
                    raise DataError(
                        f"{shown_url(url)}: sends more than the {limit:,} bytes this file can have; wrong address?"
                    )
                with storing(part):
                    stream.write(chunk)
                if progress is not None:
                    progress(len(chunk))


def _continues(response: httpx.Response, have: int) -> bool:
    match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    return response.status_code == 206 and match is not None and int(match[1]) == have


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _reason(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
