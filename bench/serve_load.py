"""Load on the example server: requests a second and latency, from a real client over HTTP.

python bench/serve_load.py DIR MODEL [--requests 200] [--clients 8] [--max-tokens 8]

DIR is what `refusal-lens monitor fit` wrote. Starts the server in a process of its own, asks testbed prompts of both classes
from several clients at once, and prints one line of JSON; how long deciding took is from the server's own log.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from refusal_lens.testbed import load_prompts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("model")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=8)
    options = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "decisions.jsonl"
        code = "from refusal_lens.cli.app import main; main()"
        words = ["monitor", "serve", options.folder, options.model, "--port", str(port), "--log", str(log)]
        server = subprocess.Popen([sys.executable, "-c", code, *words])
        try:
            _wait(address, server)
            seconds, whole = _ask_all(address, options)
            decided = [json.loads(line) for line in log.read_text().splitlines()]
        finally:
            server.terminate()
            server.wait()
    print(json.dumps(_summary(options, seconds, whole, decided)))


def _wait(address: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise SystemExit("the server did not start")
        try:
            if httpx.get(f"{address}/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise SystemExit("the server did not answer within five minutes")


def _ask_all(address: str, options: argparse.Namespace) -> tuple[list[float], float]:
    pool = [
        prompt.text
        for language in ("en", "de", "yo")
        for harm in ("harmless", "harmful")
        for prompt in load_prompts(language=language, split="test", harm=harm)[:40]
    ]
    texts = [pool[index * 7 % len(pool)] for index in range(options.requests)]
    with httpx.Client(timeout=300) as client:

        def ask(text: str) -> float:
            body = {"messages": [{"role": "user", "content": text}], "max_tokens": options.max_tokens}
            start = time.perf_counter()
            client.post(f"{address}/v1/chat/completions", json=body).raise_for_status()
            return time.perf_counter() - start

        ask(texts[0])
        start = time.perf_counter()
        with ThreadPoolExecutor(options.clients) as pool_of_clients:
            return list(pool_of_clients.map(ask, texts)), time.perf_counter() - start


def _summary(
    options: argparse.Namespace, seconds: list[float], whole: float, decided: list[dict[str, object]]
) -> dict[str, object]:
    deciding = [float(str(line["milliseconds"])) for line in decided[1:]]
    return {
        "requests": len(seconds),
        "clients": options.clients,
        "requests_per_second": round(len(seconds) / whole, 1),
        "p50_ms": round(1000 * statistics.median(seconds), 1),
        "p95_ms": round(1000 * statistics.quantiles(seconds, n=20)[-1], 1),
        "deciding_p50_ms": round(statistics.median(deciding), 1),
        "deciding_p95_ms": round(statistics.quantiles(deciding, n=20)[-1], 1),
        "refused": sum(line["action"] == "refused" for line in decided[1:]),
    }


if __name__ == "__main__":
    main()
