"""The example server: refuses what is flagged, answers the rest, streams, logs no text, stops when told, sees drift."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import refusal_lens as rl
from refusal_lens.monitor import Monitor
from refusal_lens.monitor.card import Calibration
from refusal_lens.monitor.fitting import DECILES
from refusal_lens.testbed import load_prompts

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from refusal_lens.serve import Guard, Local, Settings, Upstream, create_app
from refusal_lens.serve.drift import FEWEST, Drift, distance

PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def parts() -> tuple[rl.LensModel, Monitor]:
    model = rl.load_model("testbed:aligned")
    classes = [load_prompts(language="en", split="train", harm=harm)[:40] for harm in ("harmful", "harmless")]
    return model, Monitor.fit(model, {"en": (classes[0], classes[1])})


@pytest.fixture
def guard(parts: tuple[rl.LensModel, Monitor], tmp_path: Path) -> Guard:
    model, monitor = parts
    return Guard(monitor, model, Settings("No.", True, tmp_path / "log.jsonl", tmp_path / "STOP", "secret"))


def _texts(harm: str) -> list[str]:
    return [prompt.text for prompt in load_prompts(language="en", split="test", harm=harm)[:6]]


def _ask(client: TestClient, text: str, **more: object) -> dict[str, object]:
    reply = client.post(
        PATH, json={"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 12, **more}
    )
    assert reply.status_code == 200, reply.text
    return reply.json()


def _pieces(lines: Iterator[str]) -> list[dict[str, object]]:
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    return [json.loads(item) for item in data[:-1]]


def test_flagged_prompts_are_refused_and_the_others_answered_as_generate_does(guard: Guard):
    client = TestClient(create_app(guard, Local(guard.model, guard.lock)))
    refused = [_ask(client, text)["choices"][0] for text in _texts("harmful")]
    assert sum(choice["message"]["content"] == "No." for choice in refused) >= 5
    assert {choice["finish_reason"] for choice in refused if choice["message"]["content"] == "No."} == {
        "content_filter"
    }
    texts = _texts("harmless")
    answered = [_ask(client, text)["choices"][0]["message"]["content"] for text in texts]
    expected = [one.text for one in rl.generate(guard.model, texts, max_new_tokens=12)]
    assert sum(one.strip() == other.strip() for one, other in zip(answered, expected, strict=True)) >= 5


def test_a_stream_says_the_same_piece_by_piece(guard: Guard):
    client = TestClient(create_app(guard, Local(guard.model, guard.lock)))
    for text in (_texts("harmless")[0], _texts("harmful")[0]):
        whole = _ask(client, text)["choices"][0]
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 12, "stream": True}
        with client.stream("POST", PATH, json=body) as reply:
            chunks = _pieces(reply.iter_lines())
        said = "".join(str(chunk["choices"][0]["delta"].get("content", "")) for chunk in chunks)
        assert said == whole["message"]["content"]
        assert chunks[-1]["choices"][0]["finish_reason"] == whole["finish_reason"]


def test_the_log_has_the_decision_and_no_word_of_the_prompt(guard: Guard):
    client = TestClient(create_app(guard, Local(guard.model, guard.lock)))
    text = _texts("harmful")[0]
    name = _ask(client, text)["id"]
    file = guard.settings.log_file
    assert file is not None
    [line] = [json.loads(line) for line in file.read_text().splitlines()]
    assert line["request"] == name and line["action"] == "refused" and line["flag"] is True
    assert line["harmful_probability"] >= line["threshold"] and line["language"] == "en"
    words = [word for word in text.lower().strip(".?").split() if len(word) > 3]
    assert words and not any(word in file.read_text().lower() for word in words)
    assert file.stat().st_mode & 0o077 == 0


def test_without_a_gate_a_flag_is_noted_and_answered(parts: tuple[rl.LensModel, Monitor], tmp_path: Path):
    model, monitor = parts
    guard = Guard(monitor, model, Settings(gate=False, log_file=tmp_path / "log.jsonl"))
    client = TestClient(create_app(guard, Local(model, guard.lock)))
    assert _ask(client, _texts("harmful")[0])["choices"][0]["finish_reason"] == "stop"
    assert json.loads((tmp_path / "log.jsonl").read_text())["action"] == "noted"


def test_a_gate_of_one_s_own_decides(parts: tuple[rl.LensModel, Monitor]):
    model, monitor = parts
    guard = Guard(monitor, model, gate=lambda scored: f"held at {scored.threshold:.1f}")
    client = TestClient(create_app(guard, Local(model, guard.lock)))
    assert str(_ask(client, "How do I bake bread?")["choices"][0]["message"]["content"]).startswith("held at")


def test_the_kill_switch_stops_by_file_and_by_endpoint(guard: Guard):
    client = TestClient(create_app(guard, Local(guard.model, guard.lock)))
    body = {"messages": [{"role": "user", "content": "How do I bake bread?"}], "max_tokens": 2}
    file = guard.settings.kill_file
    assert file is not None
    file.touch()
    assert client.post(PATH, json=body).status_code == 503
    file.unlink()
    assert client.post(PATH, json=body).status_code == 200
    assert client.post("/admin/stop").status_code == 403
    assert client.post("/admin/stop", headers={"Authorization": "Bearer wrong"}).status_code == 403
    assert client.post("/admin/stop", headers={"Authorization": "Bearer secret"}).json() == {"stopped": True}
    assert client.post(PATH, json=body).status_code == 503 and client.get("/health").json()["stopped"] is True
    client.post("/admin/start", headers={"Authorization": "Bearer secret"})
    assert client.post(PATH, json=body).status_code == 200


@pytest.mark.parametrize("body", [{}, {"messages": []}, {"messages": [{"content": "x"}]}, {"messages": "x"}])
def test_a_request_without_messages_is_refused(guard: Guard, body: dict[str, object]):
    client = TestClient(create_app(guard, Local(guard.model, guard.lock)))
    assert client.post(PATH, json=body).status_code == 422


def test_an_endpoint_answers_what_the_gate_lets_through(guard: Guard):
    flask = pytest.importorskip("flask")
    from werkzeug.serving import make_server

    seen: list[dict[str, object]] = []
    served = flask.Flask("upstream")

    @served.post("/v1/chat/completions")
    def answer() -> object:
        seen.append({"body": flask.request.get_json(), "key": flask.request.headers.get("Authorization")})
        chunks = [{"choices": [{"delta": {"content": word}}]} for word in ("Flour, ", "water.")]
        return flask.Response("".join(f"data: {json.dumps(one)}\n\n" for one in chunks) + "data: [DONE]\n\n")

    server = make_server("127.0.0.1", 0, served)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        client = TestClient(create_app(guard, Upstream(f"http://127.0.0.1:{server.server_port}/v1", "theirs")))
        body = {"messages": [{"role": "user", "content": _texts("harmless")[0]}], "temperature": 0.5}
        reply = client.post(PATH, json=body, headers={"Authorization": "Bearer client"}).json()
        assert reply["choices"][0]["message"]["content"] == "Flour, water." and reply["model"] == "theirs"
        assert _ask(client, _texts("harmful")[0])["choices"][0]["message"]["content"] == "No."
    finally:
        server.shutdown()
    assert len(seen) == 1, "a refused request goes nowhere"
    assert seen[0]["key"] == "Bearer client"
    assert seen[0]["body"] == {**body, "model": "theirs", "stream": True}
    assert client.post(PATH, json=body).status_code == 502, "an endpoint that is gone is said"


def test_drift_is_the_distance_from_the_reference_and_alarms_beyond_chance(parts: tuple[rl.LensModel, Monitor]):
    _, monitor = parts
    draw = np.random.default_rng(0)
    line = Calibration("labels", 0.0, 1.0, 0.5, 0.05, 40, harmless=tuple(np.quantile(draw.normal(size=5000), DECILES)))
    # everything above the last decile: no share at or below any, 0.9 from the last
    assert distance(np.full(100, 9.0), line.harmless) == pytest.approx(0.9)
    assert distance(np.asarray(line.harmless), line.harmless) == pytest.approx(0.1)
    from dataclasses import replace

    drift = Drift(replace(monitor.card, calibrations={"*": line, "en": line, "de": line}))
    for score in draw.normal(size=FEWEST):
        drift.saw("en", float(score))
    for score in draw.normal(loc=1.5, size=FEWEST):
        drift.saw("de", float(score))
    drift.saw("fr", 0.0)
    assert drift.alarms() == ["de"] and set(drift.distances()) == {"en", "de"}
