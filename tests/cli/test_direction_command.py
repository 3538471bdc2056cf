"""direction show, export and import: through the real entry, on a run with recorded directions and on foreign files."""

from __future__ import annotations

import json
import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner, Result

import refusal_lens as rl
from refusal_lens.cli.app import app
from refusal_lens.directions import Direction
from refusal_lens.errors import DataError, LensError, NoValidDirection, RunError, UserError
from refusal_lens.rundir import RunDir, write_plan
from refusal_lens.types import Task

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("en", "de", "th", "yo", "random-0")
TASKS = {name: Task("direction", 2, name, {"name": name}) for name in NAMES}
EN = Direction(torch.tensor([3.0, 4.0, 0.0]), -1, 2, "en", "abc", harmless_projection=0.5)
DE = Direction(torch.tensor([0.0, 2.0, 0.0]), -2, 1, "de", "abc")


def direction(*words: object) -> Result:
    return CliRunner().invoke(app, ["direction", *map(str, words)])


def failed(result: Result) -> LensError:
    assert isinstance(result.exception, LensError), (result.exception, result.output)
    return result.exception


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """English and German found, Thai without a valid candidate, Yoruba not yet computed, one null."""
    made = RunDir.create(tmp_path / "run", header={"config": {}})
    write_plan(made, list(TASKS.values()))
    for found in (EN, DE, Direction(torch.tensor([0.0, 0.0, 5.0]), -1, 2, "random-0", "abc")):
        with made.writing(TASKS[found.source]) as folder:
            found.save(folder / "direction.safetensors")
            (folder / "status.json").write_text(json.dumps({"status": "selected", "reason": None}), encoding="utf-8")
    with made.writing(TASKS["th"]) as folder:
        why = {"status": "no valid direction", "reason": "KL > 0.2 dropped 30 of 30"}
        (folder / "status.json").write_text(json.dumps(why), encoding="utf-8")
    return made.root


def test_export_writes_what_direction_load_reads_with_its_facts(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "en.safetensors"
    result = direction("export", run, "--source", "en", "--out", out)
    assert result.exit_code == 0, result.output
    found = Direction.load(out)
    assert torch.equal(found.vector, EN.vector)
    assert (found.source, found.layer, found.position, found.model_digest) == ("en", 2, -1, "abc")
    assert found.harmless_projection == 0.5
    with safe_open(out, framework="pt") as file:
        facts = json.loads(file.metadata()["refusal_lens"])
    assert facts["norm"] == 5.0  # 3, 4, 5
    assert [item.name for item in out.parent.iterdir()] == ["en.safetensors"]
    assert torch.equal(rl.open_run(run).direction("en").vector, EN.vector)


def test_what_cannot_be_exported_is_said_and_writes_nothing(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    cases: list[tuple[str, type[LensError], int, str]] = [
        ("fr", UserError, 2, r"no direction 'fr' was asked for; it has en, de, th, yo, random-0"),
        ("th", NoValidDirection, 3, r"KL > 0.2 dropped 30 of 30"),
        ("yo", RunError, 2, r"not finished; `refusal-lens resume"),
    ]
    for source, kind, code, words in cases:
        error = failed(direction("export", run, "--source", source, "--out", out))
        assert type(error) is kind
        assert error.exit_code == code
        assert re.search(words, str(error))
    assert failed(direction("export", tmp_path, "--out", out)).exit_code == 2
    assert not out.exists()


def test_a_file_in_the_way_stays_unless_forced_and_the_run_stays_clean(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "en.safetensors"
    out.write_text("precious", encoding="utf-8")
    assert "--force" in str(failed(direction("export", run, "--out", out)))
    assert out.read_text(encoding="utf-8") == "precious"
    assert direction("export", run, "--out", out, "--force").exit_code == 0
    assert Direction.load(out).source == "en"
    assert "lies in the run" in str(failed(direction("export", run, "--out", run / "en.safetensors")))
    assert "name it en.safetensors" in str(failed(direction("export", run, "--out", tmp_path / "en.pt")))


def test_a_direction_whose_bytes_changed_is_not_exported(run: Path, tmp_path: Path) -> None:
    file = run / "data" / "direction" / "en" / "direction.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 0x40  # still a well-formed file, with another number in it
    file.chmod(0o600)
    file.write_bytes(bytes(data))
    error = failed(direction("export", run, "--out", tmp_path / "en.safetensors"))
    assert "recorded digest" in str(error)
    assert error.exit_code == 2


def test_show_has_status_place_norm_and_cosines(run: Path) -> None:
    rows = {row["source"]: row for row in json.loads(direction("show", run, "--format", "json").stdout)}
    assert [rows[name]["status"] for name in NAMES] == [
        "selected", "selected", "no valid direction", "unfinished", "selected",
    ]  # fmt: skip
    assert (rows["en"]["layer"], rows["en"]["position"], rows["en"]["norm"]) == (2, -1, 5.0)
    assert rows["en"]["cosine_de"] == pytest.approx(0.8)  # (3, 4, 0) . (0, 1, 0) / 5
    assert rows["en"]["cosine_random-0"] == 0
    assert rows["yo"]["cosine_en"] is None
    table = direction("show", run).stdout
    assert "random-0" not in table
    assert "0.800" in table
    assert "KL > 0.2 dropped 30 of 30" in table
    assert "random-0" in direction("show", run, "--all").stdout


def test_show_reads_files_beside_runs(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "de.safetensors"
    DE.save(out)
    rows = json.loads(direction("show", out, run, "--format", "json").stdout)
    assert rows[0]["source"] == f"{out}:de"
    assert rows[0][f"cosine_{run}:de"] == 1


def test_a_published_pickle_becomes_a_direction_file(tmp_path: Path) -> None:
    torch.save(torch.tensor([0.0, 3.0, 4.0], dtype=torch.float64), tmp_path / "direction.pt")
    (tmp_path / "direction_metadata.json").write_text('{"pos": -4, "layer": 16}', encoding="utf-8")
    out = tmp_path / "x.safetensors"
    result = direction("import", tmp_path / "direction.pt", "--source", "ja", "--out", out)
    assert result.exit_code == 0, result.output
    found = Direction.load(out)
    assert (found.source, found.position, found.layer, found.model_digest) == ("ja", -4, 16, None)
    assert found.vector.tolist() == [0.0, 3.0, 4.0]


class _Code:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_that_needs_code_is_refused_without_the_advice_to_run_it(tmp_path: Path) -> None:
    (tmp_path / "direction_metadata.json").write_text('{"pos": -1, "layer": 1}', encoding="utf-8")
    mark, out = tmp_path / "ran", tmp_path / "x.safetensors"
    torch.save(_Code(mark), tmp_path / "zip.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(_Code(mark)))
    for name in ("zip.pt", "raw.pt"):
        error = failed(direction("import", tmp_path / name, "--out", out))
        assert "would run code" in str(error)
        assert "weights_only" not in str(error)
        assert error.exit_code == 2
    assert not mark.exists()
    assert not out.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\x80\x02\xff\x00", b"\x80\x02R.", b"PK\x03\x04"],
    ids=["empty", "text", "noise", "stack", "zip"],
)
def test_what_is_no_tensor_file_is_one_message(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "direction.pt").write_bytes(content)
    (tmp_path / "direction_metadata.json").write_text('{"pos": -1, "layer": 1}', encoding="utf-8")
    error = failed(direction("import", tmp_path / "direction.pt", "--out", tmp_path / "x.safetensors"))
    assert isinstance(error, DataError)
    assert str(tmp_path / "direction.pt") in str(error)


@pytest.mark.parametrize(
    "facts", ["{}", '{"pos": 1, "layer": 2}', '{"pos": -1, "layer": true}', '{"pos": -1.0, "layer": 1}', "[]"]
)
def test_metadata_without_a_place_is_refused(tmp_path: Path, facts: str) -> None:
    torch.save(torch.ones(3), tmp_path / "direction.pt")
    (tmp_path / "m.json").write_text(facts, encoding="utf-8")
    error = failed(
        direction(
            "import", tmp_path / "direction.pt", "--metadata", tmp_path / "m.json", "--out", tmp_path / "x.safetensors"
        )
    )
    assert error.exit_code == 2
    assert "m.json" in str(error)


def test_a_direction_file_without_its_place_is_one_message(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(
        {"direction": torch.ones(3)}, tmp_path / "d.safetensors", metadata={"refusal_lens": '{"schema_version": 1}'}
    )
    with pytest.raises(DataError, match="'position' is None"):
        Direction.load(tmp_path / "d.safetensors")


def test_the_documented_hooks_do_what_intervening_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from refusal_lens.testbed import locate

    page = (ROOT / "docs" / "directions.md").read_text(encoding="utf-8")
    code = re.search(r"<!-- directions-test -->\n```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    folder = locate("aligned")
    model = rl.load_model("testbed:aligned", device="cpu", dtype="float32")
    drawn = torch.randn(model.d_model, generator=torch.Generator().manual_seed(1))
    found = Direction(drawn, -1, 3, "en")
    found.save(tmp_path / "en.safetensors")
    monkeypatch.chdir(tmp_path)
    text = code.group(1).replace('"Qwen/Qwen2.5-7B-Instruct"', repr(str(folder)))
    text = text.replace('"auto"', '"float32"')  # the testbed's weights are stored in float16
    # The logits are taken while the hooks are on, so before the block takes them off.
    text = text.replace("for handle in handles:", "ablated = model(**prompt).logits\nfor handle in handles:")
    names: dict[str, object] = {}
    exec(compile(text, "directions.md", "exec"), names)
    prompt = names["prompt"]
    with torch.no_grad():
        untouched = model.hf(**prompt).logits  # type: ignore[arg-type]
        with rl.intervening(model, [found.ablation()]):
            exact = model.hf(**prompt).logits  # type: ignore[arg-type]
    assert torch.allclose(names["ablated"], exact, atol=1e-4)  # type: ignore[arg-type]
    assert not torch.allclose(untouched, exact, atol=1e-2), "the intervention acts"
    hooked, layers, add = names["model"], names["model"].model.layers, names["add"]  # type: ignore[attr-defined]
    with layers[3].register_forward_pre_hook(add, with_kwargs=True), torch.no_grad():
        added = hooked(**prompt).logits  # type: ignore[operator]
    with torch.no_grad(), rl.intervening(model, [found.addition()]):
        assert torch.allclose(added, model.hf(**prompt).logits, atol=1e-4)  # type: ignore[arg-type]
    capsys.readouterr()
