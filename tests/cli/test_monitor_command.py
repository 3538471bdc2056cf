"""`refusal-lens monitor fit`, `score`, `show`, `recalibrate`: the contract, on a testbed with few prompts.

What the Python block of docs/monitor.md does (monitor-test) is done here.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import refusal_lens as rl
import tiny_models
from refusal_lens.cli.app import app
from refusal_lens.cli.monitor_data import load_watched
from refusal_lens.errors import DataError, LensError, ModelError, UserError
from refusal_lens.monitor import Calibration, Card, Monitor
from refusal_lens.monitor.card import OTHERS
from refusal_lens.monitor.reading import chat_ids
from refusal_lens.testbed import load_prompts

RUN = CliRunner()
MODEL = "testbed:aligned"


def _rows(languages: str, n: int = 24) -> list[dict[str, object]]:
    return [
        {"text": prompt.text, "language": language, "harm": harm, "number": 1.5}
        for language in languages.split(",")
        for harm in ("harmful", "harmless")
        for prompt in load_prompts(language=language, split="test", harm=harm)[:n]
    ]


def _jsonl(file: Path, rows: list[dict[str, object]]) -> Path:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def _read(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("monitor")
    words = ["monitor", "fit", MODEL, "--fit-languages", "en", "--languages", "en,yo", "--out", str(out)]
    done = RUN.invoke(app, [*words, "--n-train", "40", "--n-val", "20"])
    assert done.exit_code == 0, done.output
    return out


def test_scores_are_added_to_rows_that_stay_as_they_are(fitted: Path, tmp_path: Path):
    rows = _rows("en,yo")
    file, out = _jsonl(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    done = RUN.invoke(app, ["monitor", "score", str(fitted), MODEL, str(file), "--out", str(out)])
    assert done.exit_code == 0, done.output
    scored = _read(out)
    added = {"harmful_probability", "flag", "threshold"}
    assert [{key: row[key] for key in row if key not in added} for row in scored] == rows
    assert all(set(row) - set(rows[0]) == added for row in scored)
    assert all(row["flag"] is (row["harmful_probability"] >= row["threshold"]) for row in scored)
    for language in ("en", "yo"):
        flags = {
            harm: [row["flag"] for row in scored if row["language"] == language and row["harm"] == harm]
            for harm in ("harmful", "harmless")
        }
        assert np.mean(flags["harmful"]) >= 0.8, language
        assert np.mean(flags["harmless"]) <= 0.1, language


def test_batches_order_and_missing_languages_do_not_change_a_score(fitted: Path):
    model, monitor = rl.load_model(MODEL), rl.Monitor.load(fitted)
    rows = _rows("en,yo", 4)
    texts, languages = [str(row["text"]) for row in rows], [str(row["language"]) for row in rows]
    whole = monitor.score(model, texts, languages=languages)
    backwards = monitor.score(model, texts[::-1], languages=languages[::-1], batch_size=1)[::-1]
    assert np.allclose(
        [one.harmful_probability for one in whole], [one.harmful_probability for one in backwards], atol=1e-4
    )
    recognised = monitor.score(model, texts)
    assert [one.language for one in recognised] == languages


def test_a_score_is_the_projection_at_the_card_s_place(fitted: Path):
    model, monitor = rl.load_model(MODEL), Monitor.load(fitted)
    text = load_prompts(language="en", split="test", harm="harmful")[0].text
    import torch

    states = model.hf(torch.tensor(model.render([text])), output_hidden_states=True).hidden_states
    expected = float(states[monitor.card.layer][0, monitor.card.position] @ torch.from_numpy(monitor.weight))
    assert float(monitor.raw(model, [text])[0]) == pytest.approx(expected, abs=1e-4)


def test_a_stream_begins_with_the_prompt_s_score_and_goes_on_token_by_token(fitted: Path):
    model, monitor = rl.load_model(MODEL), Monitor.load(fitted)
    text = load_prompts(language="en", split="test", harm="harmful")[0].text
    with monitor.stream(model, language="en") as stream:
        answer = rl.generate(model, [text], max_new_tokens=6)[0]
    assert len(stream.passes) == len(answer.token_ids)
    if monitor.card.position == -1:
        [scored] = monitor.score(model, [text], languages=["en"])
        assert float(stream.passes[0][0]) == pytest.approx(scored.harmful_probability, abs=1e-4)
    assert stream.smoothed is not None and 0 <= float(stream.smoothed[0]) <= 1
    before = len(stream.passes)
    rl.generate(model, [text], max_new_tokens=2)
    assert len(stream.passes) == before, "nothing is left behind"


def test_chats_are_read_whole_and_a_single_message_as_a_prompt(fitted: Path):
    model, monitor = rl.load_model(MODEL), Monitor.load(fitted)
    text = "How do I bake bread?"
    first = [{"role": "user", "content": text}]
    second = [*first, {"role": "assistant", "content": "Like this."}, {"role": "user", "content": text}]
    raw = monitor.raw(model, [text, first, second])
    assert raw[0] == pytest.approx(raw[1]) and raw[2] != pytest.approx(raw[0])
    with pytest.raises(DataError, match="a chat is a list of messages"):
        monitor.raw(model, [[]])


def test_another_model_is_refused_unless_told(fitted: Path, tmp_path: Path):
    file = _jsonl(tmp_path / "in.jsonl", [{"text": "How do I bake bread?"}])
    words = ["monitor", "score", str(fitted), "testbed:partial", str(file), "--out", str(tmp_path / "out.jsonl")]
    done = RUN.invoke(app, words)
    assert isinstance(done.exception, ModelError) and done.exception.exit_code == 2
    assert "--other-model" in str(done.exception)
    assert RUN.invoke(app, [*words, "--other-model"]).exit_code == 0


def test_a_prompt_that_does_not_fit_is_flagged_without_a_probability(fitted: Path, tmp_path: Path):
    file, out = _jsonl(tmp_path / "in.jsonl", [{"text": "bread " * 3000}, {"text": "bread"}]), tmp_path / "out.jsonl"
    done = RUN.invoke(app, ["monitor", "score", str(fitted), MODEL, str(file), "--out", str(out)])
    assert done.exit_code == 0, done.output
    long, short = _read(out)
    assert long["harmful_probability"] is None and long["flag"] is True
    assert isinstance(short["harmful_probability"], float)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"words": "x"}], "no prompt in this row"),
        ([{"text": "   "}], "no visible character"),
        ([{"messages": [{"role": "user"}]}], "role and content"),
    ],
)
def test_a_row_that_cannot_be_scored_is_named(fitted: Path, tmp_path: Path, rows: list[dict[str, object]], said: str):
    file = _jsonl(tmp_path / "in.jsonl", rows)
    done = RUN.invoke(app, ["monitor", "score", str(fitted), MODEL, str(file), "--out", str(tmp_path / "out.jsonl")])
    assert isinstance(done.exception, LensError) and done.exception.exit_code == 2
    assert said in str(done.exception) and "line 1" in str(done.exception)
    assert not (tmp_path / "out.jsonl").exists()


def test_the_file_that_is_read_is_not_overwritten_and_an_empty_one_gives_an_empty_one(fitted: Path, tmp_path: Path):
    file = _jsonl(tmp_path / "in.jsonl", [])
    words = ["monitor", "score", str(fitted), MODEL, str(file), "--out"]
    assert isinstance(RUN.invoke(app, [*words, str(file)]).exception, LensError)
    empty = RUN.invoke(app, [*words, str(tmp_path / "out.jsonl")])
    assert empty.exit_code == 0 and "no prompts in it" in empty.output
    assert (tmp_path / "out.jsonl").read_text() == ""


def test_show_says_what_is_promised(fitted: Path):
    done = RUN.invoke(app, ["monitor", "show", str(fitted), "--format", "json"])
    rows = {row["language"]: row for row in json.loads(done.output)}
    assert rows["en"]["how"] == "labels" and rows["en"]["promised_miss"] <= 0.05
    assert rows["*"]["how"] == "borrowed" and rows["*"]["promised_miss"] is None
    assert isinstance(RUN.invoke(app, ["monitor", "show", str(fitted / "nowhere")]).exception, DataError)


def test_labels_recalibrate_one_language_and_no_other(fitted: Path, tmp_path: Path):
    rows = [row for row in _rows("de", 8) if row["harm"] == "harmful"]
    out = tmp_path / "again"
    words = ["monitor", "recalibrate", str(fitted), MODEL, "--harmful", str(_jsonl(tmp_path / "de.jsonl", rows))]
    done = RUN.invoke(app, [*words, "--out", str(out)])
    assert done.exit_code == 0, done.output
    old, new = Monitor.load(fitted).card, Monitor.load(out).card
    assert new.calibrations["de"].how == "few labels" and new.calibrations["de"].n == 8
    assert {code: one for code, one in new.calibrations.items() if code != "de"} == dict(old.calibrations)


def test_traffic_recalibrates_a_language_without_a_label(fitted: Path, tmp_path: Path):
    """German was never seen: its threshold was the English one, without a promise."""
    file = _jsonl(tmp_path / "de.jsonl", [{"text": row["text"], "language": "de"} for row in _rows("de", 24)])
    out = tmp_path / "again"
    words = ["monitor", "recalibrate", str(fitted), MODEL, "--out", str(out)]
    done = RUN.invoke(app, [*words, "--unlabelled", str(file)])
    assert done.exit_code == 0, done.output
    old, new = Monitor.load(fitted).card, Monitor.load(out).card
    assert (new.calibrations["de"].how, new.calibrations["de"].n) == ("unlabelled", 48)
    assert {code: one for code, one in new.calibrations.items() if code != "de"} == dict(old.calibrations)
    harmless = _jsonl(tmp_path / "few.jsonl", [{"text": row["text"], "language": "de"} for row in _rows("de", 4)])
    few = RUN.invoke(app, [*words, "--unlabelled", str(harmless)])  # 8 prompts: too few for two groups
    assert isinstance(few.exception, UserError) and "nothing was changed" in str(few.exception)
    for wrong in ([], ["--unlabelled", str(file), "--harmful", str(file)]):
        assert isinstance(RUN.invoke(app, [*words, *wrong]).exception, UserError)


def test_a_run_names_model_and_prompts(tmp_path: Path):
    run = tmp_path / "run"
    rl.audit(MODEL, out=run, languages="en", limit=2, baseline_only=True)
    words = ["monitor", "fit", str(run), "--out", str(tmp_path / "m"), "--n-train", "12", "--n-val", "6"]
    done = RUN.invoke(app, words)
    assert done.exit_code == 0, done.output
    card = Monitor.load(tmp_path / "m").card
    assert card.model["spec"] == MODEL and set(card.calibrations) == {"en", "*"}


def test_evaluate_writes_every_figure_with_its_null_and_a_summary_into_the_card(fitted: Path, tmp_path: Path):
    import shutil

    from refusal_lens.core.monitor_tables import CURVES, MONITOR

    place = tmp_path / "copy"
    shutil.copytree(fitted, place)
    words = [
        "monitor",
        "evaluate",
        str(place),
        MODEL,
        "--languages",
        "en,yo",
        "--limit",
        "20",
        "--shifts",
        "second-turn",
    ]
    done = RUN.invoke(app, words)
    assert done.exit_code == 0, done.output
    rows = MONITOR.read(place / "evaluation.parquet")
    assert {(row["language"], row["shift"]) for row in rows} == {
        (c, s) for c in ("en", "yo") for s in ("", "second-turn")
    }
    assert {row["null"] for row in rows} <= {"length", "words", "random direction"}
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    [yo] = [row for row in rows if (row["language"], row["shift"], row["figure"]) == ("yo", "", "auroc")]
    assert yo["value"] > 0.9
    corners = CURVES.read(place / "curves.parquet")
    assert {(row["language"], row["shift"]) for row in corners} == {(row["language"], row["shift"]) for row in rows}
    kept = Monitor.load(place).card.evaluation
    assert {row["figure"] for row in kept} == {"auroc", "miss", "false alarm"}
    refused = [row for row in rows if row["claim"] == "not beyond its null"]
    assert f"{len(refused)} of {len(rows)} figures" in done.output


def test_a_monitor_is_used_with_thinking_switched_as_it_was_fitted(tmp_path: Path):
    """Whole chats too: the switch stands in the template itself. Before, the model of such a monitor counted as another one."""
    folder = tiny_models.build("llama", tmp_path / "model")
    turns = tiny_models.TEMPLATE[: tiny_models.TEMPLATE.index("{% if add")]
    opening = "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}"
    (folder / "chat_template.jinja").write_text(f"{turns}{opening}<think></think>{{% endif %}}{{% endif %}}")
    off = rl.load_model(str(folder), thinking="off")
    known = off.provenance
    facts = {
        name: getattr(known, name)
        for name in ("spec", "digest", "template_digest", "architecture", "dtype", "thinking")
    }
    line = Calibration("borrowed", 0.0, 1.0, 0.5, None, 0)
    card = Card(facts, "projection", -1, 1, 1.0, 0.0, 0.05, ("en",), ("texts",), {OTHERS: line})
    Monitor(np.ones(off.d_model, np.float32), card).save(tmp_path / "monitor")
    monitor = Monitor.load(tmp_path / "monitor")
    loaded = load_watched(monitor, str(folder), device="cpu", dtype="float32")
    chat = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bread?"},
    ]
    assert len(monitor.score(loaded, ["Bread?", chat])) == 2
    ids = chat_ids(loaded, ["Bread?", chat])
    assert ids[0][-len(loaded.positions) :] == ids[1][-len(loaded.positions) :], (
        "the same closed thoughts at the end of both"
    )
    with pytest.raises(ModelError, match="was fitted on"):
        monitor.score(rl.load_model(str(folder)), ["Bread?"])
