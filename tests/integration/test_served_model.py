"""A served model as MODEL: a baseline-only audit and its gate against a real HTTP server on this machine."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from refusal_lens import open_run
from refusal_lens.cli.app import app
from refusal_lens.errors import EndpointError, ExecutionError, GateFailed, LensError, ModelError
from refusal_lens.judging import chat
from refusal_lens.model import load_model

KEY = "sesame-of-the-server"
REFUSAL = {"en": "I'm sorry, but I can't help with that.", "de": "Es tut mir leid, dabei kann ich nicht helfen."}
HELP = {
    "en": "Sure, here is how you do it: first take the cup.",
    "de": "Gerne, hier ist die Anleitung: zuerst die Tasse.",
}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    asked: Counter[str]
    broken: bool
    failing: set[str]
    keys: set[str | None]
    limits: set[int]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        self.server.asked[prompt] += 1
        self.server.keys.add(self.headers.get("Authorization"))
        self.server.limits.add(body["max_tokens"])
        language = "de" if prompt.startswith("Frage") else "en"
        code, message, ended = 200, {"content": HELP[language]}, "stop"
        if (self.server.broken and language == "de") or prompt in self.server.failing:
            code = 401
        elif "lock" in prompt:
            message = {"content": REFUSAL[language], "reasoning_content": "Sure, here is how: I could say it."}
        elif "filtered" in prompt:
            code = 400
        elif "long" in prompt:
            ended = "length"
        elif "echo" in prompt:
            message = {"content": f"{HELP['en']} Your key is {self.headers.get('Authorization')}"}
        data = json.dumps({"choices": [{"message": message, "finish_reason": ended}]}).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("REFUSAL_LENS_API_KEY", KEY)
    made = Server(("127.0.0.1", 0), Handler)
    made.asked, made.broken, made.failing, made.keys, made.limits = Counter(), False, set(), set(), set()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """20 harmful and 20 harmless prompts of two languages; one harmful English one is answered, one is filtered."""
    rows = ["text,lang,harm,split"]
    for index in range(20):
        wish = {3: "filtered", 4: "echo"}.get(index, "lock")
        rows.append(f"Question {index}: the {wish}?,en,harmful,test")
        rows.append(f"Frage {index}: das lock?,de,harmful,test")
        rows.append(f"Question {index}: a {'long ' if index == 5 else ''}cup?,en,harmless,test")
        rows.append(f"Frage {index}: eine Tasse?,de,harmless,test")
    path = tmp_path / "own.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def spec_of(server: Server) -> str:
    return f"endpoint:http://127.0.0.1:{server.server_port}/v1#org/model"


def audit(spec: str, prompts: Path, out: Path, *words: object) -> Result:
    given = ["audit", spec, "--prompts", prompts, "--out", out, *words]
    return CliRunner().invoke(app, [str(word) for word in given])


def test_a_served_model_is_measured_and_gated_and_the_key_is_nowhere(
    server: Server, prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    result = audit(spec_of(server), prompts, out, "--baseline-only", "--max-new-tokens", 77)
    assert result.exit_code == 0, (result.output, result.exception)
    rates = {(row["language"], row["prompts"]): row for row in open_run(out).rates.to_pylist()}
    assert {place: (row["k"], row["n"], row["unscored"]) for place, row in rates.items()} == {
        ("en", "harmful"): (1, 19, 1),  # one answered, one rejected by the server and so without text
        ("de", "harmful"): (0, 20, 0),
        ("en", "harmless"): (20, 20, 0),
        ("de", "harmless"): (20, 20, 0),
    }
    assert rates["en", "harmless"]["truncated"] == 1
    answers = open_run(out).answers(languages=["en"]).to_pylist()
    assert next(row["text"] for row in answers if "lock" in row["prompt"]).startswith("<think>Sure")
    assert server.keys == {f"Bearer {KEY}"}
    assert server.limits == {1, 77}, "one word to try the address, then the answers"
    for file in out.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
    before = sum(server.asked.values())
    assert audit(spec_of(server), prompts, out, "--baseline-only", "--max-new-tokens", 77).exit_code == 0
    assert sum(server.asked.values()) == before, "what is valid is not asked again"
    gate = ["gate", str(out), "--trust-judge", "all"]
    assert CliRunner().invoke(app, [*gate, "--max-overrefusal", "0.2"]).exit_code == 0
    assert isinstance(CliRunner().invoke(app, [*gate, "--max-compliance", "0.01"]).exception, GateFailed)
    assert CliRunner().invoke(app, ["verify", str(out)]).exit_code == 0


def test_a_broken_connection_costs_its_tasks_and_resume_asks_only_them(
    server: Server, prompts: Path, tmp_path: Path
) -> None:
    server.broken = True
    out = tmp_path / "run"
    failed = audit(spec_of(server), prompts, out, "--baseline-only")
    assert isinstance(failed.exception, ExecutionError)
    assert "HTTP 401" in str(failed.exception)
    server.broken = False
    english = {prompt: count for prompt, count in server.asked.items() if prompt.startswith("Question")}
    resumed = CliRunner().invoke(app, ["resume", str(out)])
    assert resumed.exit_code == 0, (resumed.output, resumed.exception)
    assert {prompt: count for prompt, count in server.asked.items() if prompt.startswith("Question")} == english
    assert {row["language"] for row in open_run(out).rates.to_pylist()} == {"en", "de"}


def test_replies_that_came_before_a_shard_failed_are_not_asked_for_again(
    server: Server, prompts: Path, tmp_path: Path
) -> None:
    server.failing = {"Frage 7: das lock?", "Question 9: a cup?"}
    out = tmp_path / "run"
    failed = audit(spec_of(server), prompts, out, "--baseline-only")
    assert isinstance(failed.exception, ExecutionError)
    kept = out / "replies.jsonl"
    assert kept.stat().st_mode & 0o077 == 0
    assert CliRunner().invoke(app, ["verify", str(out)]).exit_code == 0, "it belongs to the run"
    before, server.failing = Counter(server.asked), set()
    resumed = CliRunner().invoke(app, ["resume", str(out)])
    assert resumed.exit_code == 0, (resumed.output, resumed.exception)
    again = {prompt for prompt, count in server.asked.items() if count > before[prompt]}
    assert again <= {"Frage 7: das lock?", "Question 9: a cup?", "Question 3: the filtered?", "Hello"}
    assert not kept.exists(), "nothing is left to remember"
    rates = {(row["language"], row["prompts"]): row for row in open_run(out).rates.to_pylist()}
    assert rates["en", "harmless"]["truncated"] == 1, "remembered too: the reply that was cut"


@pytest.mark.parametrize(
    ("spec", "words", "said"),
    [
        ("endpoint:http://h/v1#m", (), "--baseline-only"),
        ("endpoint:http://h/v1", ("--baseline-only",), "endpoint:URL#NAME"),
        ("endpoint:ftp://h/v1#m", ("--baseline-only",), "endpoint:URL#NAME"),
        ("endpoint:http://me:hush-hush@h/v1#m", ("--baseline-only",), "holds a secret"),
        ("endpoint:http://h/v1?api_key=hush-hush#m", ("--baseline-only",), "holds a secret"),
        ("endpoint:http://h/v1#m", ("--baseline-only", "--dtype", "float32"), "--dtype"),
    ],
)
def test_what_cannot_be_asked_of_a_served_model_is_said(
    prompts: Path, tmp_path: Path, spec: str, words: tuple[str, ...], said: str
) -> None:
    error = audit(spec, prompts, tmp_path / "run", *words).exception
    assert isinstance(error, LensError)
    assert error.exit_code == 2
    assert said in str(error)
    assert "hush-hush" not in str(error)
    assert not (tmp_path / "run").exists()


def test_an_address_without_a_server_leaves_no_run_behind(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat.time, "sleep", lambda _: None)
    error = audit("endpoint:http://127.0.0.1:9/v1#m", prompts, tmp_path / "run", "--baseline-only").exception
    assert isinstance(error, EndpointError)
    assert not (tmp_path / "run").exists()


def test_every_other_command_says_that_there_are_no_weights() -> None:
    with pytest.raises(ModelError, match="is served: no weights"):
        load_model("endpoint:http://h/v1#m")
