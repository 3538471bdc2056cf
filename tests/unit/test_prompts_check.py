"""`data check` names planted faults, and nothing in a clean folder."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from prompt_folders import write_json
from refusal_lens.errors import DataError
from refusal_lens.prompts.checking.check import check
from refusal_lens.prompts.checking.results import CheckReport
from refusal_lens.prompts.loading.alignment import displaced_rows, length_correlation, lengths_agree

WORDS = {
    "en": [
        "the",
        "garden",
        "of",
        "my",
        "neighbour",
        "has",
        "a",
        "small",
        "green",
        "door",
        "and",
        "we",
        "often",
        "sit",
        "there",
        "in",
        "the",
        "warm",
        "evening",
        "sun",
    ],
    "de": [
        "der",
        "kleine",
        "Garten",
        "meines",
        "Nachbarn",
        "hat",
        "eine",
        "grüne",
        "Tür",
        "und",
        "wir",
        "sitzen",
        "dort",
        "oft",
        "in",
        "der",
        "warmen",
        "Abendsonne",
    ],
    "es": [
        "el",
        "jardín",
        "pequeño",
        "de",
        "mi",
        "vecino",
        "tiene",
        "una",
        "puerta",
        "verde",
        "y",
        "nos",
        "sentamos",
        "allí",
        "muchas",
        "tardes",
        "cuando",
        "hace",
        "calor",
    ],
}
ROWS = 40


def sentences(language: str, seed: int) -> list[str]:
    """Distinct sentences whose lengths are the same in every language for one seed."""
    source = random.Random(seed)
    counts = [source.randint(6, 40) for _ in range(ROWS)]
    words = random.Random(f"{language}{seed}")
    return [
        " ".join(words.choice(WORDS[language]) for _ in range(count)) + f" {seed}.{row}"
        for row, count in enumerate(counts)
    ]


def make(root: Path) -> Path:
    for number, (harm, split) in enumerate(
        (harm, split) for harm in ("harmful", "harmless") for split in ("train", "val", "test")
    ):
        english = sentences("en", number)
        write_json(root / "dataset" / "splits" / f"{harm}_{split}.json", [{"instruction": text} for text in english])
        for language in ("de", "es"):
            pairs = list(zip(english, sentences(language, number), strict=True))
            if split == "test":
                rows = [{"instruction": one, "instruction_translated": other} for one, other in pairs]
            else:
                rows = [{"instruction": other} for _, other in pairs]
            write_json(file(root, language, harm, split), rows)
            if (harm, split) == ("harmful", "test"):
                back = [
                    {"instruction": one, "instruction_translated": other, "instruction_back_translated": one}
                    for one, other in pairs
                ]
                stem = "harmful_test_back_translated"
                write_json(root / "PolyRefuse" / stem / f"{stem}_{language}.json", back)
        if split == "test":
            write_json(file(root, "en", harm, split), [{"instruction": text} for text in english])
    return root


def file(root: Path, language: str, harm: str, split: str) -> Path:
    return root / "PolyRefuse" / f"{harm}_{split}_translated_{language}.json"


def edit(path: Path, row: int, **fields: object) -> None:
    rows = json.loads(path.read_text())
    rows[row - 1].update(fields)
    write_json(path, rows)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path)


def look(root: Path, *, identify: bool = False) -> CheckReport:
    return check(root, languages=("de", "en", "es"), identify=identify)


def found(root: Path, *, identify: bool = False) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(problem.code, problem.where, problem.rows) for problem in look(root, identify=identify).problems]


@pytest.mark.slow
def test_a_clean_folder_has_no_problem(root: Path) -> None:
    report = look(root, identify=True)
    assert report.problems == ()
    assert len(report.cells) == 18
    assert {(cell.n, cell.missing) for cell in report.cells} == {(ROWS, False)}


def test_missing_cells_and_languages(root: Path) -> None:
    file(root, "es", "harmless", "val").unlink()
    report = check(root, languages=("de", "en", "es", "sw"), identify=False)
    assert [(problem.code, problem.where) for problem in report.problems][:2] == [
        ("missing-cell", "es harmless val"),
        ("missing-language", "sw"),
    ]
    absent = [(cell.language, cell.split, cell.harm) for cell in report.cells if cell.missing]
    assert ("es", "val", "harmless") in absent
    assert len(absent) == 7


def test_published_languages_are_expected(root: Path) -> None:
    missing = {problem.where for problem in check(root, identify=False).problems if problem.code == "missing-language"}
    assert missing == {"ar", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo", "zh"}


def test_faults_in_rows(root: Path) -> None:
    path = file(root, "de", "harmful", "train")
    original = json.loads(path.read_text())
    english = json.loads((root / "dataset" / "splits" / "harmful_train.json").read_text())
    edit(path, 2, instruction=original[0]["instruction"])
    edit(path, 4, instruction=None)
    edit(path, 5, instruction=" \u200b ")
    edit(path, 6, instruction=english[5]["instruction"])
    edit(path, 7, instruction=original[6]["instruction"] * 4)
    edit(path, 8, instruction=original[7]["instruction"] + " caf\u00c3\u00a9 &quot;\ufffd\u202e")
    edit(path, 9, instruction=7)
    codes = {(code, rows) for code, where, rows in found(root) if where.startswith("harmful_train_translated_de.json")}
    assert codes == {
        ("duplicate", (2,)),
        ("same-translation", (1, 2)),
        ("empty", (4,)),
        ("empty", (5,)),
        ("untranslated", (6,)),
        ("length-ratio", (7,)),
        ("encoding", (8,)),
        ("broken-row", (9,)),
        ("encoding", (5,)),
    }
    (cell,) = [
        cell for cell in look(root).cells if (cell.language, cell.split, cell.harm) == ("de", "train", "harmful")
    ]
    assert (cell.n, cell.duplicates, cell.empty, cell.untranslated, cell.length_outliers) == (ROWS, 1, 3, 1, 1)


def test_wrong_language_rows(root: Path) -> None:
    spanish = sentences("es", 0)
    edit(file(root, "de", "harmful", "train"), 3, instruction=spanish[2])
    assert ("wrong-language", "harmful_train_translated_de.json (de harmful train)", (3,)) in found(root, identify=True)


def test_overlaps_by_original_and_by_text(root: Path) -> None:
    english = json.loads((root / "dataset" / "splits" / "harmful_train.json").read_text())
    german = json.loads(file(root, "de", "harmless", "val").read_text())
    edit(file(root, "de", "harmful", "test"), 1, instruction=english[7]["instruction"])
    edit(file(root, "en", "harmful", "test"), 1, instruction=english[7]["instruction"])
    problems = [problem for problem in look(root).problems if problem.code == "overlap"]
    assert {problem.where.split(" ")[0] for problem in problems} == {
        f"harmful_test_translated_{code}.json" for code in ("de", "en")
    }
    assert all("harmful train" in problem.detail and problem.rows == (1,) for problem in problems)
    write_json(root / "dataset" / "splits" / "harmless_val.json", [{"instruction": "too few"}])
    edit(file(root, "de", "harmless", "train"), 5, instruction=german[2]["instruction"])
    assert any(code == "overlap" and "harmless" in where for code, where, _ in found(root))


def test_a_dropped_row_is_a_misalignment(root: Path) -> None:
    path = file(root, "de", "harmless", "train")
    rows = json.loads(path.read_text())
    write_json(path, [*rows[:8], *rows[9:], {"instruction": "neu und kurz"}])
    ((code, _, affected),) = [item for item in found(root) if item[0] == "misaligned"]
    assert code == "misaligned"
    assert {12, 25, 35} < set(affected)
    write_json(path, rows[:-1])
    assert [code for code, where, _ in found(root) if where.startswith(path.name)] == ["row-count"]


def test_other_prompts_at_the_same_places_are_a_misalignment(root: Path) -> None:
    path = file(root, "es", "harmless", "train")
    rows = json.loads(path.read_text())
    random.Random(0).shuffle(rows)
    write_json(path, rows)
    assert ("misaligned", f"{path.name} (es harmless train)", tuple(range(1, ROWS + 1))) in found(root)


def test_test_rows_with_another_original_are_a_misalignment(root: Path) -> None:
    path = file(root, "es", "harmful", "test")
    rows = json.loads(path.read_text())
    rows[3], rows[4] = rows[4], rows[3]
    write_json(path, rows)
    assert ("misaligned", f"{path.name} (es harmful test)", (4, 5)) in found(root)


def test_copies_translated_differently(root: Path) -> None:
    english = json.loads(file(root, "en", "harmful", "test").read_text())[0]["instruction"]
    for language in ("en", "de"):
        edit(file(root, language, "harmful", "test"), 9, instruction=english)
    codes = {(code, rows) for code, where, rows in found(root) if "_de.json" in where}
    assert ("different-translation", (1, 9)) in codes


def test_back_translations(root: Path) -> None:
    stem = root / "PolyRefuse" / "harmful_test_back_translated" / "harmful_test_back_translated"
    (stem.parent / f"{stem.name}_es.json").rename(stem.parent / f"{stem.name}_xx.json")
    edit(stem.parent / f"{stem.name}_de.json", 3, instruction_back_translated=None)
    edit(stem.parent / f"{stem.name}_de.json", 4, instruction_back_translated="Translation failed")
    codes = [(code, rows) for code, _, rows in found(root) if "back-translation" in code]
    assert codes == [
        ("null-back-translation", (3, 4)),
        ("missing-back-translation", ()),
        ("stray-back-translation", ()),
    ]


def test_english_prompts_that_were_not_translated(root: Path) -> None:
    write_json(
        root / "dataset" / "splits" / "harmless_test.json", [{"instruction": f"Something else {n}"} for n in range(5)]
    )
    (problem,) = [problem for problem in look(root).problems if problem.code == "english-differs"]
    assert problem.detail.startswith("0 of its 5 prompts")


def test_broken_files_are_named_and_the_rest_is_checked(root: Path) -> None:
    file(root, "de", "harmful", "val").write_text("{")
    report = look(root)
    assert [(problem.code, "harmful_val_translated_de.json" in problem.where) for problem in report.problems] == [
        ("broken-file", True)
    ]
    for path in root.rglob("*.json"):
        path.write_text("[")
    with pytest.raises(DataError, match="nothing could be read"):
        look(root)


def test_lengths() -> None:
    english, german = sentences("en", 1), sentences("de", 1)
    assert (length_correlation(german, english) or 0) > 0.9
    assert lengths_agree(german, english)
    assert not lengths_agree(random.Random(1).sample(german, ROWS), english)
    assert lengths_agree(["a"] * ROWS, english)
    assert lengths_agree(german[:5], english[5:10])
    assert length_correlation([None, 3, *german], [*english, None, None]) is not None
    assert displaced_rows(german, english) == []
    assert displaced_rows([], []) == []
    moved = [german[-1], *german[:-1]]
    ((part),) = displaced_rows(moved, english)
    assert (part.shift, part.last - part.first >= ROWS - 8) == (-1, True)
