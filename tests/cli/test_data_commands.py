"""The data commands as a user types them: exit codes, clean JSON on stdout, one clear message on stderr."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets
import pytest
from typer.testing import CliRunner, Result

from prompt_folders import HARMFUL, make_polyrefuse, write_json
from refusal_lens.cli.app import app
from refusal_lens.errors import LensError
from refusal_lens.prompts import load_prompts
from refusal_lens.types import HARMS, SPLITS


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", *arguments])


def code_of(result: Result) -> int:
    return result.exception.exit_code if isinstance(result.exception, LensError) else result.exit_code


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = make_polyrefuse(tmp_path / "repo")
    stem = "harmful_test_back_translated"
    for code in ("de", "yo"):
        rows = [
            {"instruction": text, "instruction_translated": "x", "instruction_back_translated": f"Please {text}"}
            for text in HARMFUL["test"]
        ]
        rows[2]["instruction_back_translated"] = None
        write_json(root / "PolyRefuse" / stem / f"{stem}_{code}.json", rows)
    return root


def test_check(root: Path) -> None:
    (root / "PolyRefuse" / "harmless_test_translated_yo.json").unlink()
    result = run("check", str(root), "--format", "json", "--languages", "de,en,yo", "--no-identify")
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert len(report["cells"]) == 18
    for cell in report["cells"]:
        assert {"language", "split", "harm", "n", "missing", "duplicates"} <= cell.keys()
        assert cell["missing"] == ((cell["language"], cell["split"], cell["harm"]) == ("yo", "test", "harmless"))
    for problem in report["problems"]:
        assert {"code", "where", "detail"} <= problem.keys()
    codes = {(problem["code"], problem["where"]) for problem in report["problems"]}
    assert ("missing-cell", "yo harmless test") in codes
    assert {"duplicate", "english-differs", "null-back-translation"} <= {code for code, _ in codes}
    assert run("check", str(root), "--strict", "--no-identify", "--languages", "de").exit_code == 4


def test_check_reads_nothing(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        assert code_of(run("check", str(folder))) == 2


def test_quality(root: Path) -> None:
    result = run("quality", str(root), "--format", "json")
    scored = json.loads(result.stdout)
    assert set(scored) == {"de", "yo"}
    for item in scored.values():
        assert {"chrf", "bleu", "n", "low", "high"} <= item.keys()
        assert item["n"] == 2
        assert item["low"] <= item["chrf"] <= item["high"]
    assert "chrF" in run("quality", str(root)).stdout
    assert code_of(run("quality", str(root), "--chart", "x.svg")) == 2


def test_sources() -> None:
    listed = json.loads(run("sources", "--format", "json").stdout)
    assert {"name", "what", "licence", "stated", "citation", "files"} <= listed[0].keys()
    assert "Alpaca" in run("sources").stdout


class Chat(BaseHTTPRequestHandler):
    """A chat endpoint that answers the text between the marks, in brackets."""

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.reply({"object": "list", "data": [{"id": "tiny"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = body["messages"][-1]["content"]
        text = asked.split("\n-----\n")[1].removesuffix("\n-----") if "\n-----\n" in asked else asked
        answer = text.removeprefix("[there] ") if "to English" in asked else f"[there] {text}"
        self.reply({"choices": [{"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}]})

    def reply(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_build_correct_and_check(tmp_path: Path, endpoint: str) -> None:
    mine, out = tmp_path / "mine.txt", tmp_path / "out"
    mine.write_text("Name three kitchen tools\nExplain how rain forms\n")
    arguments: Sequence[str] = (
        "build",
        "--prompts",
        str(mine),
        "--harm",
        "harmless",
        "--languages",
        "sw,hi",
        "--out",
        str(out),
    )
    result = run(*arguments, "--translator", f"endpoint:{endpoint}")
    assert result.exit_code == 0, result.output
    assert "2 prompts in 3 languages" in result.stdout
    assert "no refusal phrases yet" in result.stdout
    scored = json.loads(run("quality", str(out), "--format", "json").stdout)
    assert {code: item["n"] for code, item in scored.items()} == {"hi": 2, "sw": 2}
    assert (out / "languages" / "sw.toml").exists()
    report = json.loads(run("check", str(out), "--format", "json", "--no-identify").stdout)
    assert [cell["n"] for cell in report["further"]] == [2, 2, 2]
    (tmp_path / "edits.jsonl").write_text("{}")
    assert code_of(run("correct", str(out), "--edits", str(tmp_path / "edits.jsonl"))) == 2
    assert code_of(run(*arguments, "--translator", "nonsense")) == 2


def test_export(root: Path, tmp_path: Path) -> None:
    assert run("export", str(root), "--out", str(tmp_path / "out")).exit_code == 0
    assert (tmp_path / "out" / "README.md").exists()
    assert code_of(run("export", str(root), "--out", str(tmp_path / "out"))) == 2


@pytest.mark.slow
def test_a_users_mistake_is_one_message_without_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "refusal_lens.cli.app"]
    script = "import sys; from refusal_lens.cli.app import main; sys.argv[0] = 'refusal-lens'; main()"
    for arguments in (
        ["download", "--from", str(tmp_path / "nowhere"), "--dest", str(tmp_path / "d")],
        ["check", str(tmp_path / "bad\udcff")],
    ):
        command = [sys.executable, "-c", script, "data", *arguments]
        done = subprocess.run(command, capture_output=True, check=False, timeout=120)
        assert done.returncode == 2, done.stderr
        assert b"Traceback" not in done.stderr
        assert done.stderr.startswith(b"error: ")
        assert done.stdout == b""


def test_own_prompts_become_a_data_set_as_they_are(tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    rows = [
        f"[{code}] {harm} {n},{code},{harm},{harm}{n}"
        for code in ("en", "hi")
        for harm in ("unsafe", "safe")
        for n in range(5)
    ]
    own.write_text("\n".join(["goal,lang,class,id", *rows]) + "\n", encoding="utf-8")
    out = tmp_path / "mine"
    result = CliRunner().invoke(
        app, ["data", "build", "--prompts", str(own), "--no-translate", "--column", "text=goal", "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    assert "20 prompts read, the first: '[en] unsafe 0' (en 10, hi 10)" in result.stderr
    assert "drawn by id with seed 0: 5 harmful = 2 train + 1 val + 2 test" in result.stderr
    assert (out / "languages" / "hi.toml").exists()
    for code in ("en", "hi"):
        found = [
            prompt.text for split in SPLITS for prompt in load_prompts(out, language=code, split=split, harm="harmful")
        ]
        assert sorted(found) == [f"[{code}] unsafe {n}" for n in range(5)]
    assert datasets.load_dataset(str(out), "hi", split="test", cache_dir=str(tmp_path / "cache"))["text"][:] == [
        prompt.text for harm in HARMS for prompt in load_prompts(out, language="hi", split="test", harm=harm)
    ]
