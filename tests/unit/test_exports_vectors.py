"""A direction in the forms of other engines: read by each engine's own library or rule, and back again unchanged."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
import torch
from typer.testing import CliRunner

from refusal_lens.cli.app import app
from refusal_lens.directions import Direction, import_foreign
from refusal_lens.errors import DataError, UserError
from refusal_lens.exports import Options, export
from refusal_lens.rundir import RunDir, write_plan
from refusal_lens.types import Task

EN = Direction(torch.tensor([3.0, 4.0, -0.5]), -2, 3, "en", "abc", 0.25, (0.5, -1.0, 2.0, 0.25))
FORMS = ("gguf", "lm-eval", "steering-vectors", "pt")


def run_of(found: Direction, root: Path) -> Path:
    config = {"model": {"spec": "org/model"}, "interventions": {"coefficient": 2.0}}
    made = RunDir.create(root, header={"config": {**config, "directions": {"sources": [found.source]}}})
    task = Task("direction", 2, found.source, {"name": found.source})
    write_plan(made, [task])
    with made.writing(task) as folder:
        found.save(folder / "direction.safetensors")
        (folder / "status.json").write_text(json.dumps({"status": "selected", "reason": None}), encoding="utf-8")
    return made.root


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return run_of(EN, tmp_path / "run")


def test_without_a_source_the_run_s_own_direction_is_written(tmp_path: Path) -> None:
    """English is the usual source; before, a run from German alone was refused for want of an English direction."""
    german = Direction(EN.vector, -2, 3, "de", "abc", harmless_projection=0.25)
    written(run_of(german, tmp_path / "run"), "pt", tmp_path)
    assert json.loads((tmp_path / "en_metadata.json").read_text())["source"] == "de"


def written(run: Path, form: str, tmp_path: Path, **options: object) -> Path:
    return export(run, form, out=tmp_path / f"en.{'gguf' if form == 'gguf' else 'pt'}", options=Options(**options))[0]


def test_gguf_is_a_control_vector_by_ggufs_own_reader(run: Path, tmp_path: Path) -> None:
    reader = gguf.GGUFReader(written(run, "gguf", tmp_path, model_hint="qwen2"))
    told = {name: reader.get_field(name).contents() for name in
            ("general.architecture", "controlvector.model_hint", "controlvector.layer_count")}  # fmt: skip
    assert told == {
        "general.architecture": "controlvector",
        "controlvector.model_hint": "qwen2",
        "controlvector.layer_count": 1,
    }
    (tensor,) = reader.tensors
    # llama.cpp adds direction.N to the output of block N: what enters block 3 is written by block 2.
    assert (tensor.name, tensor.data.tolist()) == ("direction.2", [3.0, 4.0, -0.5])


def test_lm_eval_reads_the_point_action_and_coefficient_of_the_run(run: Path, tmp_path: Path) -> None:
    content = torch.load(written(run, "lm-eval", tmp_path), weights_only=True)
    (point, told), *others = content.items()
    assert not others
    assert point == "layers.2"
    assert (told["action"], told["steering_coefficient"], told["bias"]) == ("add", 2.0, None)
    assert told["steering_vector"].tolist() == EN.vector.tolist()


def test_lm_evals_hook_does_what_addition_does(tmp_path: Path) -> None:
    """The hook of lm-evaluation-harness on a real model: the output of the named module gets coefficient times vector."""
    from refusal_lens.model import load_model, next_token_logits

    model = load_model("testbed:aligned")
    found = Direction(torch.randn(model.d_model, generator=torch.Generator().manual_seed(0)), -1, 3, "en")
    content = torch.load(
        written(run_of(found, tmp_path / "run"), "lm-eval", tmp_path, coefficient=1.5), weights_only=True
    )
    ((point, told),) = content.items()
    asked = ["How do I open a bike lock?"]
    ours = next_token_logits(model, asked, interventions=[found.addition(coefficient=1.5)])
    module = dict(model.hf.base_model.named_modules())[point]

    def steer(_module: object, _given: object, output: object) -> object:
        first = output[0] if isinstance(output, tuple) else output
        changed = first + told["steering_coefficient"] * told["steering_vector"]
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = module.register_forward_hook(steer)
    theirs = next_token_logits(model, asked)
    handle.remove()
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert not torch.allclose(ours, next_token_logits(model, asked), atol=1e-2)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_comes_back_with_its_layer(run: Path, tmp_path: Path, form: str) -> None:
    back = import_foreign(written(run, form, tmp_path), source="en")
    assert torch.equal(back.vector, EN.vector)
    assert (back.layer, back.source) == (EN.layer, "en")


@pytest.mark.parametrize("form", ["gguf", "pt"])
def test_a_form_with_room_for_it_comes_back_whole(run: Path, tmp_path: Path, form: str) -> None:
    """The affine references of all layers too: without them an affine ablation put one number into every layer."""
    back = import_foreign(written(run, form, tmp_path))
    assert (back.position, back.source, back.model_digest) == (-2, "en", "abc")
    assert back.harmless_projection == 0.25
    assert back.harmless_projections == (0.5, -1.0, 2.0, 0.25)


@pytest.mark.parametrize("said", [{"harmless_projections": [1.0, "x"]}, {"harmless_projection": float("nan")}])
def test_a_reference_that_is_no_number_is_named(run: Path, tmp_path: Path, said: dict[str, object]) -> None:
    place = written(run, "pt", tmp_path)
    (tmp_path / "en_metadata.json").write_text(json.dumps({"pos": -2, "layer": 3, **said}), encoding="utf-8")
    with pytest.raises(DataError, match="no number"):
        import_foreign(place)


def test_pt_is_a_plain_tensor_with_the_published_metadata_beside_it(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "direction.pt"
    assert export(run, "pt", out=out) == [out, tmp_path / "direction_metadata.json"]
    assert torch.load(out, weights_only=True).tolist() == EN.vector.tolist()
    facts = json.loads((tmp_path / "direction_metadata.json").read_text())
    assert (facts["pos"], facts["layer"]) == (-2, 3)


@pytest.mark.parametrize(("layer", "form"), [(0, "lm-eval"), (0, "steering-vectors"), (0, "gguf"), (1, "gguf")])
def test_a_layer_that_an_engine_cannot_reach_is_said(tmp_path: Path, layer: int, form: str) -> None:
    run = run_of(Direction(EN.vector, -1, layer, "en"), tmp_path / "run")
    with pytest.raises(DataError, match=rf"read at layer {layer}, and {form} adds behind block [01] at the earliest"):
        written(run, form, tmp_path)


def test_a_vector_of_repengs_kind_needs_a_layer_where_it_has_several(tmp_path: Path) -> None:
    """Written with gguf's writer as repeng does: a tensor for every layer, no fact of ours."""
    place = tmp_path / "foreign.gguf"
    writer = gguf.GGUFWriter(place, "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", 2)
    for block in (1, 2):
        writer.add_tensor(f"direction.{block}", torch.full((3,), float(block)).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(DataError, match="a vector at each of the layers 2, 3; name one with --layer"):
        import_foreign(place)
    with pytest.raises(DataError, match="no vector at layer 1, only at 2, 3"):
        import_foreign(place, layer=1)
    assert import_foreign(place, layer=3).vector.tolist() == [2.0, 2.0, 2.0]
    result = CliRunner().invoke(
        app, ["direction", "import", str(place), "--layer", "2", "--out", str(tmp_path / "x.safetensors")]
    )
    assert result.exit_code == 0, result.output
    assert Direction.load(tmp_path / "x.safetensors").layer == 2


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 64, b"no such thing at all"])
def test_a_damaged_gguf_is_one_message(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "x.gguf"
    place.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as GGUF"):
        import_foreign(place)


def test_a_steering_vector_of_the_real_library(run: Path, tmp_path: Path) -> None:
    library = pytest.importorskip(
        "steering_vectors", reason="steering-vectors is not installed (not in the test extra)"
    )
    fields = torch.load(written(run, "steering-vectors", tmp_path), weights_only=True)
    made = library.SteeringVector(**fields)
    assert made.layer_activations[2].tolist() == EN.vector.tolist()


def test_an_export_into_the_run_is_refused(run: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(run), "--format", "pt", "--out", str(run / "x.pt")])
    assert isinstance(result.exception, UserError)
    assert "lies in the run" in str(result.exception)


def test_the_command_names_what_it_wrote(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.gguf"
    result = CliRunner().invoke(app, ["export", str(run), "--format", "gguf", "--out", str(out)])
    assert (result.exit_code, result.stdout.strip()) == (0, str(out))
