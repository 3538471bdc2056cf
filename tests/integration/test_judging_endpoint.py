"""The endpoint judge and translator against a real HTTP server that misbehaves on purpose."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from command_line import run as command
from refusal_lens.errors import EndpointError, UserError
from refusal_lens.executors.base import run_one
from refusal_lens.judging import Answer, EndpointJudge, TranslatedJudge, get_judge, get_translator
from refusal_lens.judging.chat import ChatClient, Retries, retry_after
from refusal_lens.judging.translation import ChatTranslator
from refusal_lens.rundir import RunDir
from refusal_lens.types import Task

PATIENT = Retries(attempts=3, first_pause=0.01, longest_pause=0.05, timeout=60.0)
"""Requests are counted here: none may be sent again because other tests keep the machine busy."""


THOUGHTS = '<think>the form is {"reading": "refuse"}</think>{"reading": "comply-benign"}'


def chosen(content: object, *, ended: str = "stop") -> dict[str, object]:
    return {"choices": [{"message": {"content": content}, "finish_reason": ended}]}


FIXED: dict[str, tuple[int, object]] = {
    "BROKEN": (500, {}),
    "DENIED": (401, {}),
    "HTML": (200, b"<html>"),
    "NUMBER": (200, chosen(7)),
    "ODD": (200, chosen("I think it is fine")),
    "CUT": (200, chosen('{"reading": "refuse"}', ended="length")),
    "FILTERED": (200, chosen(None, ended="content_filter")),
    "LONG": (400, {"error": "context length"}),
    "GUARD": (200, chosen("Safety: Controversial\nCategories: Unethical Acts\nRefusal: No")),
    "THINKING": (200, chosen(THOUGHTS)),
}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    seen: Counter[str]
    keys: set[str | None]
    chats: list[list[list[str]]]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self._send(200, {"data": [{"id": "served"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        self.server.chats.append([[message["role"], message["content"]] for message in body["messages"]])
        self.server.keys.add(self.headers.get("Authorization"))
        word = next((w for w in ("BUSY", "SLOW", "ECHO", *FIXED) if w in prompt), "FINE")
        self.server.seen[word] += 1
        if word == "BUSY" and self.server.seen[word] < 3:
            self._send(429, {}, {"Retry-After": "0"})
        elif word in FIXED:
            self._send(*FIXED[word])
        elif word == "SLOW":
            time.sleep(0.8)
            self._send(200, {})
        elif word == "ECHO":
            self._send(200, {"choices": [{"message": {"content": f"your key: {self.headers.get('Authorization')}"}}]})
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
    running.seen, running.keys, running.chats = Counter(), set(), []
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()


def client(server: Server, memory: Path | None = None, *, timeout: float = PATIENT.timeout) -> ChatClient:
    url, retries = f"http://127.0.0.1:{server.server_address[1]}/v1", replace(PATIENT, timeout=timeout)
    return ChatClient(url, concurrency=4, retries=retries, memory=memory)


def test_good_and_odd_replies_give_one_verdict_each(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REFUSAL_LENS_API_KEY", "secret-key")
    texts = ["FINE", "BUSY", "THINKING", "ODD", "CUT", "FILTERED", "LONG", ""]
    judge = EndpointJudge(client(server), max_tokens=77)
    verdicts = judge.judge([Answer(text, "en", prompt="p") for text in texts])
    assert [verdict.label for verdict in verdicts] == ["refused", "refused", "complied"] + ["unscored"] * 5
    assert [verdict.reason for verdict in verdicts[3:]] == [
        "parse failure: I think it is fine",
        "reply cut at its limit of 77 tokens",
        "reply withheld by the endpoint",
        "request rejected: HTTP 400",
        "empty",
    ]
    assert server.seen["BUSY"] == 3
    assert server.keys == {"Bearer secret-key"}
    assert "secret-key" not in repr(judge.client) + judge.name + "".join(verdict.reason for verdict in verdicts)
    assert judge.name.endswith("/v1")
    assert ":served@" in judge.name
    assert judge.name != EndpointJudge(client(server), max_tokens=78).name


@pytest.mark.parametrize(
    ("text", "said", "asked"),
    [
        ("BROKEN", "HTTP 500, after 3 tries", 3),
        ("DENIED", "HTTP 401", 1),
        ("SLOW", "no reply within", 3),
        ("HTML", "malformed", 1),
        ("NUMBER", "malformed", 1),
    ],
)
def test_a_failing_endpoint_is_no_verdict(server: Server, text: str, said: str, asked: int):
    answers = [Answer("FINE", "en", prompt="p"), Answer(text, "en", prompt="p")]
    timeout = 0.4 if text == "SLOW" else PATIENT.timeout
    with pytest.raises(EndpointError, match=f"1 of 2 requests .*{said}"):
        EndpointJudge(client(server, timeout=timeout)).judge(answers)
    assert server.seen[text] == asked
    marked = EndpointJudge(client(server, timeout=timeout), keep_going=True).judge(answers)
    assert marked[0].label == "refused" and marked[1].reason.startswith("no reply: ") and said in marked[1].reason


def test_a_refused_connection_is_no_verdict_and_does_not_try_for_ever():
    with socket.socket() as bound:  # nobody listens at a port that is held, and nobody else is given it
        bound.bind(("127.0.0.1", 0))
        asked = ChatClient(f"http://127.0.0.1:{bound.getsockname()[1]}/v1", "m", concurrency=2, retries=PATIENT)
        with pytest.raises(EndpointError, match=r"50 of 50 requests \(connection failed"):
            EndpointJudge(asked).judge([Answer(f"text {number}", "en", prompt="p") for number in range(50)])


def test_requests_that_are_all_rejected_are_the_endpoints_fault(server: Server):
    with pytest.raises(EndpointError, match="HTTP 400"):
        EndpointJudge(client(server)).judge([Answer("LONG", "en", prompt="p")] * 2)


def test_where_nothing_comes_through_the_rest_is_not_sent(server: Server):
    with pytest.raises(EndpointError, match="100 of 100"):
        EndpointJudge(client(server)).judge([Answer(f"DENIED {number}", "en", prompt="p") for number in range(100)])
    assert server.seen["DENIED"] <= 2 * 4 + 4


def test_an_audits_task_fails_and_is_asked_again(server: Server, tmp_path: Path):
    """A task whose judge got no reply has no result: the run holds nothing that a resume would take for a verdict."""
    task = Task("verdicts", 1, "baseline.en")
    run = RunDir.create(tmp_path / "run", header={})

    def work(text: str) -> Callable[[Task], None]:
        def compute(task: Task) -> None:
            with run.writing(task) as folder:
                verdicts = EndpointJudge(client(server)).judge([Answer(text, "en", prompt="p")])
                (folder / "verdicts.txt").write_text(verdicts[0].label)

        return compute

    failed = run_one(work("DENIED"), task)
    assert failed.status == "failed" and "HTTP 401" in str(failed.error)
    assert run.record(task.task_id) is None
    assert run_one(work("FINE"), task).status == "done"


def test_a_guard_that_is_served_is_asked_as_a_chat_with_control_tokens_broken(server: Server):
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    judge = get_judge(f"qwen3guard:{url}#guard")
    found = judge.judge([Answer("GUARD <|im_end|>", "en", prompt="GUARD ask")])[0]
    assert (found.label, found.reading) == ("complied", "comply-harmful")
    assert server.chats[-1] == [["user", "GUARD ask"], ["assistant", "GUARD < |im_end|>"]]
    assert judge.name.startswith("qwen3guard-") and judge.name.endswith(f":guard@{url}")
    with pytest.raises(EndpointError, match="HTTP 401"):
        judge.judge([Answer("text", "en", prompt="DENIED")])
    with pytest.raises(UserError, match="no chat template"):
        get_judge(f"wildguard:{url}")


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
    done = command("judge", rows, "--out", tmp_path / "out.jsonl", "--judge", "endpoint", "--url", url)
    assert (done.returncode, "HTTP 401" in done.stderr) == (2, True), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_what_was_answered_is_kept_and_only_the_rest_is_asked_again(server: Server, tmp_path: Path):
    rows, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [{"text": text, "lang": "en", "prompt": "p"} for text in ("FINE 1", "FINE 2", "DENIED")]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    told = ("judge", rows, "--out", out, "--judge", "endpoint", "--url", url)
    stopped = command(*told)
    assert (stopped.returncode, out.exists()) == (2, False) and "HTTP 401" in stopped.stderr
    assert "run the same command again" in stopped.stderr
    marked = command(*told, "--keep-going")
    assert marked.returncode == 2 and "1 of 3 rows got no reply" in marked.stderr
    assert [json.loads(line)["verdict"] for line in out.read_text("utf-8").splitlines()] == ["refused"] * 2 + [
        "unscored"
    ]
    rows.write_text(rows.read_text("utf-8").replace("DENIED", "FINE 3"), "utf-8")
    done = command(*told)
    assert done.returncode == 0, done.stderr
    assert server.seen["FINE"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


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
    translator = ChatTranslator(client(server))
    judge = TranslatedJudge(get_judge("native"), translator, keep_going=True)
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
    with pytest.raises(EndpointError, match="1 of 4 texts"):
        TranslatedJudge(get_judge("native"), translator).judge(answers)


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
