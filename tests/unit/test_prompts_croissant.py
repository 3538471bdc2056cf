"""Croissant of a built data set: true of the files on disk, after a build and after a correction; read by mlcroissant."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from refusal_lens.prompts import load_prompt_table
from refusal_lens.prompts.building.build import build_as_it_is
from refusal_lens.prompts.building.corrections import correct, read_corrections


@pytest.fixture
def built(tmp_path: Path) -> Path:
    source = tmp_path / "mine.csv"
    lines = ["id,text,lang,harm,split"]
    lines += [f"p{at},Open lock {at} {lang},{lang},harmful,test" for lang in ("en", "de") for at in range(3)]
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    out = tmp_path / "my set"
    build_as_it_is(load_prompt_table(source), out, licence="CC-BY-4.0")
    return out


def described(out: Path) -> dict[str, str]:
    content = json.loads((out / "croissant.json").read_text(encoding="utf-8"))
    assert (content["license"], content["name"], content["inLanguage"]) == ("CC-BY-4.0", "my-set", ["de", "en"])
    assert {records["@id"] for records in content["recordSet"]} == {"de-test", "en-test"}
    return {file["contentUrl"]: file["sha256"] for file in content["distribution"]}


def on_disk(out: Path) -> dict[str, str]:
    return {file.relative_to(out).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in (out / "data").rglob("*.parquet")}  # fmt: skip


def test_it_names_every_file_with_its_digest_also_after_a_correction(built: Path, tmp_path: Path) -> None:
    before = described(built)
    assert before == on_disk(built)
    edits = tmp_path / "edits.csv"
    edits.write_text(
        "prompt_id,language,text,reviewer,date,note\np1,de,Ein Schloss öffnen,me,2026-11-27,\n", encoding="utf-8"
    )
    assert correct(built, read_corrections(edits)) == 1
    assert described(built) == on_disk(built) != before


def test_mlcroissant_reads_the_records(built: Path) -> None:
    library = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed (not in the test extra)")
    data = library.Dataset(jsonld=str(built / "croissant.json"))
    assert not data.metadata.ctx.issues.errors
    rows = list(data.records("de-test"))
    assert [row["de-test/prompt_id"].decode() for row in rows] == ["p0", "p1", "p2"]
