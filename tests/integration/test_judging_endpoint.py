"""The endpoint judge and translator against a real HTTP server that misbehaves on purpose."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from refusal_lens.errors import UserError
from refusal_lens.judging import Answer, EndpointJudge, TranslatedJudge, get_judge, get_translator
from refusal_lens.judging.chat import ChatClient, Retries, retry_after
from refusal_lens.judging.translation import ChatTranslator

QUICK = Retries(attempts=3, first_pause=0.01, longest_pause=0.05, timeout=0.4)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    seen: Counter[str]
    keys: set[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self._send(200, {"data": [{"id": "served"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        self.server.keys.add(self.headers.get("Authorization"))
        word = next(
            (w for w in ("BUSY", "BROKEN", "DENIED", "SLOW", "HTML", "ODD", "NUMBER", "ECHO") if w in prompt), "FINE"
        )
        self.server.seen[word] += 1
        if word == "BUSY" and self.server.seen[word] < 3:
            self._send(429, {}, {"Retry-After": "0"})
        elif word == "BROKEN":
            self._send(500, {})
        elif word == "DENIED":
            self._send(401, {})
        elif word == "SLOW":
            time.sleep(0.8)
            self._send(200, {})
        elif word == "HTML":
            self._send(200, b"<html>")
        elif word == "NUMBER":
            self._send(200, {"choices": [{"message": {"content": 7}}]})
        elif word == "ECHO":
            self._send(200, {"choices": [{"message": {"content": f"your key: {self.headers.get('Authorization')}"}}]})
        elif word == "ODD":
            self._send(200, {"choices": [{"message": {"content": "I think it is fine"}}]})
        elif prompt.startswith("Translate"):
            self._send(200, {"choices": [{"message": {"content": "I'm sorry, but I can't help with that."}}]})
        else:
            self._send(200, {"choices": [{"message": {"content": '{"reading": "refuse"}'}}]})

    def _send(self, code: int, body: object, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            self.send_response(code)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            pass


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server(("127.0.0.1", 0), Handler)
    running.seen, running.keys = Counter(), set()
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()


def client(server: Server, memory: Path | None = None) -> ChatClient:
    return ChatClient(f"http://127.0.0.1:{server.server_address[1]}/v1", concurrency=4, retries=QUICK, memory=memory)


def test_good_and_bad_replies_give_one_verdict_each(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REFUSAL_LENS_API_KEY", "secret-key")
    texts = ["FINE", "BUSY", "BROKEN", "DENIED", "SLOW", "HTML", "ODD", "NUMBER", ""]
    judge = EndpointJudge(client(server))
    verdicts = judge.judge([Answer(text, "en", prompt="p") for text in texts])
    assert [verdict.label for verdict in verdicts] == ["refused", "refused"] + ["unscored"] * 7
    reasons = dict(zip(texts, (verdict.reason for verdict in verdicts), strict=True))
    assert "HTTP 500, after 3 tries" in reasons["BROKEN"]
    assert reasons["DENIED"] == "no reply: HTTP 401"
    assert "no reply within" in reasons["SLOW"]
    assert "malformed" in reasons["HTML"]
    assert "malformed" in reasons["NUMBER"]
    assert reasons["ODD"] == "parse failure: I think it is fine"
    assert reasons[""] == "empty"
    assert (server.seen["BUSY"], server.seen["BROKEN"], server.seen["DENIED"]) == (3, 3, 1)
    assert server.keys == {"Bearer secret-key"}
    assert "secret-key" not in repr(judge.client) + judge.name + "".join(verdict.reason for verdict in verdicts)
    assert judge.name.endswith("/v1")
    assert ":served@" in judge.name


def test_secrets_are_written_nowhere(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REFUSAL_LENS_API_KEY", " secret-key\n")
    memory = tmp_path / "replies.jsonl"
    found = EndpointJudge(client(server, memory)).judge([Answer("ECHO", "en", prompt="p")])[0]
    assert found.reason == "parse failure: your key: Bearer ***"
    assert "secret-key" not in memory.read_text("utf-8")
    assert server.keys == {"Bearer secret-key"}
    judge = EndpointJudge(ChatClient("http://me:password@host:8000/v1?api_key=password", "m"))
    assert judge.name.endswith("m@http://host:8000/v1")


def test_a_key_no_header_can_carry_is_said(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REFUSAL_LENS_API_KEY", "cl\u00e9-secrete")
    with pytest.raises(UserError, match="REFUSAL_LENS_API_KEY") as error:
        EndpointJudge(client(server)).judge([Answer("FINE", "en", prompt="p")])
    assert "secrete" not in str(error.value)


def test_an_endpoint_that_denies_everything_writes_nothing(server: Server, tmp_path: Path):
    rows = tmp_path / "in.jsonl"
    rows.write_text('{"text": "DENIED", "lang": "en", "prompt": "p"}\n' * 2, "utf-8")
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    code = "from refusal_lens.cli.app import main; main()"
    arguments = ["judge", str(rows), "--out", str(tmp_path / "out.jsonl"), "--judge", "endpoint", "--url", url]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, "HTTP 401" in done.stderr) == (2, True), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_an_interrupted_run_pays_once(server: Server, tmp_path: Path):
    memory = tmp_path / "replies.jsonl"
    answers = [Answer(f"FINE {number}", "en", prompt="p") for number in range(6)]
    EndpointJudge(client(server, memory)).judge(answers[:4])
    memory.write_text(memory.read_text("utf-8") + '{"key": "cut off', "utf-8")
    verdicts = EndpointJudge(client(server, memory)).judge(answers)
    assert [verdict.label for verdict in verdicts] == ["refused"] * 6
    assert server.seen["FINE"] == 6
    assert memory.stat().st_mode & 0o077 == 0


def test_translate_then_judge_keeps_both(server: Server):
    judge = TranslatedJudge(get_judge("native"), ChatTranslator(client(server)))
    answers = [
        Answer("Das mache ich nicht.", "de"),
        Answer("BROKEN", "de"),
        Answer("Here is the recipe.", "en"),
        Answer("", "de"),
    ]
    found = judge.judge_with_translations(answers)
    assert [verdict.label for verdict, _ in found] == ["refused", "unscored", "complied", "unscored"]
    assert found[0][1].text == "I'm sorry, but I can't help with that."
    assert "translation failed" in found[1][0].reason
    assert found[3][0].reason == "empty"


def test_what_the_server_asks_to_wait():
    assert retry_after("3", now=0.0) == 3
    assert retry_after("Thu, 01 Jan 1970 00:00:09 GMT", now=4.0) == pytest.approx(5)
    assert retry_after("soon", now=0.0) is None
    assert retry_after("nan", now=0.0) is None
    assert retry_after(None, now=0.0) is None


def test_users_mistakes_are_said(tmp_path: Path):
    with pytest.raises(UserError, match="http"):
        ChatClient("localhost:8000")
    with pytest.raises(UserError, match="known"):
        get_judge("oracle")
    with pytest.raises(UserError, match="hf:MODEL"):
        get_translator("babel")
    (tmp_path / "rubric.txt").write_text("judge {prompt}", "utf-8")
    with pytest.raises(UserError, match="response"):
        get_judge("endpoint:http://127.0.0.1:1/v1#m", rubric=tmp_path / "rubric.txt")
