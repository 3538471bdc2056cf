"""A user's own prompt set in one file: columns, languages, classes, and the splits made where it has none."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from refusal_lens.errors import DataError
from refusal_lens.prompts import AbsentCell, MissingColumnError, load_prompt_table
from refusal_lens.prompts.loading.cell import id_of

HEADER = ("text", "lang", "harm", "split", "id")


def write(folder: Path, rows: list[tuple[object, ...]], header: tuple[str, ...] = HEADER) -> Path:
    path = folder / "own.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def many(languages: str, count: int) -> list[tuple[object, ...]]:
    return [
        (f"[{language}] {harm} {n}", language, harm, f"{harm}-{n}")
        for harm in ("harmful", "harmless")
        for n in range(count)
        for language in languages.split(",")
    ]


def test_rows_become_prompts_of_their_cells(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [
        ("Open a lock, please", "EN", "Harmful", "train", 1),
        ("Öffne ein Schloss", "German", "unsafe", "train", 1),
        ("Paint a shed", "en", "0", "validation", 2),
        ("हैलो", "hi", "safe", "TEST", 3),
    ]
    table = load_prompt_table(write(tmp_path, rows))
    assert table.languages == ("en", "de", "hi")
    assert table.notes == ()
    cells = [(p.prompt_id, p.language, p.harm, p.split, p.english, p.prompt_set) for p in table.prompts]
    assert cells == [
        ("1", "en", "harmful", "train", "Open a lock, please", "file"),
        ("1", "de", "harmful", "train", None, "file"),
        ("2", "en", "harmless", "val", "Paint a shed", "file"),
        ("3", "hi", "harmless", "test", None, "file"),
    ]
    assert [p.text for p in table.cell("de", "train", "harmful")] == ["Öffne ein Schloss"]
    assert "4 prompts read, the first: 'Open a lock, please' (en 2, de 1, hi 1)" in table.summary()
    with pytest.raises(
        AbsentCell, match=r"no de harmless test file prompts in .*own.csv \(languages there: en, de, hi\)"
    ):
        table.cell("de", "test", "harmless")


def test_a_region_says_nothing_where_the_language_has_a_file(tmp_path: Path) -> None:
    """Found as a new user: exports say en-US; a language without a file stays as written and is named as such."""
    rows: list[tuple[object, ...]] = [
        (f"x{n}", code, "harmful", "test", n) for n, code in enumerate(("en-US", "de_AT", "zh-Hans", "pt-BR", "EN"))
    ]
    assert load_prompt_table(write(tmp_path, rows)).languages == ("en", "de", "zh", "pt-BR")


def test_columns_of_other_names_are_mapped_and_one_language_may_be_said(tmp_path: Path) -> None:
    path = write(tmp_path, [("x", "label", "Harmful")], ("Goal", "Behavior", "type"))
    table = load_prompt_table(path, columns={"text": "behavior", "harm": "TYPE"}, languages=["de"])
    assert [(p.text, p.language) for p in table.prompts] == [("label", "de")]


@pytest.mark.parametrize(("seed", "languages", "count"), [(0, "en,de", 20), (1, "de,en,th", 7), (0, "en", 3)])
def test_splits_are_made_by_id_the_same_in_every_language_and_said(
    seed: int, languages: str, count: int, tmp_path: Path
) -> None:
    path = write(tmp_path, many(languages, count), ("text", "lang", "harm", "id"))
    table = load_prompt_table(path, seed=seed)
    by_id = {p.prompt_id: {q.split for q in table.prompts if q.prompt_id == p.prompt_id} for p in table.prompts}
    assert all(len(splits) == 1 for splits in by_id.values())
    train, val = 2 * count // 5, max(1, count // 10)
    expected = {"train": train, "val": val, "test": count - train - val}
    for language in languages.split(","):
        for harm in ("harmful", "harmless"):
            found = Counter(p.split for p in table.prompts if (p.language, p.harm) == (language, harm))
            assert found == expected
    (note,) = table.notes
    assert f"seed {seed}: {count} harmful = {train} train + {val} val + {count - train - val} test" in note
    again = load_prompt_table(write(tmp_path, many(languages, count)[::-1], ("text", "lang", "harm", "id")), seed=seed)
    assert {p.prompt_id: p.split for p in again.prompts} == {p.prompt_id: p.split for p in table.prompts}
    capped = load_prompt_table(path, seed=seed, n_train=1, n_val=0)
    assert Counter(p.split for p in capped.cell(languages[:2], "train", "harmful")) == {"train": 1}
    assert {p.split for p in capped.prompts} == {"train", "test"}


def test_without_ids_every_language_gets_its_own_splits_and_the_user_is_told(tmp_path: Path) -> None:
    rows = [row[:3] for row in many("en,de", 10)]
    table = load_prompt_table(write(tmp_path, rows, ("text", "lang", "harm")))
    for language in ("en", "de"):
        found = Counter(p.split for p in table.prompts if (p.language, p.harm) == (language, "harmful"))
        assert found == {"train": 4, "val": 1, "test": 5}
    assert "no column id or english" in table.notes[1]
    with_english = [(*row, str(row[0])[5:]) for row in rows]
    table = load_prompt_table(write(tmp_path, with_english, ("text", "lang", "harm", "english")))
    assert len(table.notes) == 1
    assert {p.prompt_id for p in table.prompts} == {
        id_of(f"{h} {n}") for h in ("harmful", "harmless") for n in range(10)
    }


def test_where_a_class_is_absent_everything_is_for_the_test(tmp_path: Path) -> None:
    rows = [row for row in many("en,de", 10) if row[2] == "harmful"]
    table = load_prompt_table(write(tmp_path, rows, ("text", "lang", "harm", "id")))
    assert {p.split for p in table.prompts} == {"test"}
    assert "has no harmless prompts, so no direction can be found" in table.notes[0]


def test_copies_stay_together_and_keep_ids_unique(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [("Same thing!" if n % 2 else f"Thing {n}", "en", "harmful") for n in range(10)]
    rows.append(("Paint a shed", "en", "harmless"))
    table = load_prompt_table(write(tmp_path, rows, ("text", "lang", "harm")))
    copies = [p for p in table.prompts if p.text == "Same thing!"]
    assert [p.prompt_id for p in copies] == [id_of("same thing") + end for end in ("", "~2", "~3", "~4", "~5")]
    assert len({p.split for p in copies}) == 1


def test_further_sets_are_only_for_tests(tmp_path: Path) -> None:
    rows = [(*row, "") for row in many("en", 10)] + [("Kill a process?", "en", "harmless", "x1", "xstest")]
    table = load_prompt_table(write(tmp_path, rows, ("text", "lang", "harm", "id", "prompt_set")))
    assert table.main_set == "file"
    assert [p.text for p in table.cell("en", "test", "harmless", "xstest")] == ["Kill a process?"]
    assert len(table.cell("en", "train", "harmless")) == 4


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("text,lang", "x,en", r"no column `harm` \(harmful or harmless\)"),
        ("question,lang,harm", "x,en,harmful", "no column `text`; .*columns there: 'question', 'lang', 'harm'"),
        ("text,harm", "x,harmful", "no column `lang`"),
        ("text,lang,harm", "x,,harmful", "line 2: the language is empty"),
        ("text,lang,harm", "x,q_n,harmful", "line 2: 'q_n' is no language code"),
        ("text,lang,harm", "x,en,maybe", "line 2: the class is 'maybe'; write harmful or harmless"),
        ("text,lang,harm,split", "x,en,harmful,", "line 2: the split is ''; write train, val or test"),
        ("text,lang,harm", " ,en,harmful", "line 2: the prompt has no visible character"),
        (
            "text,lang,harm",
            "x,en,harmful\nX.,en,harmless",
            "the prompt 'X.' is harmful in one row and harmless in another",
        ),
        ("text,lang,harm,id", "x,en,harmful,1\ny,en,harmful,1", "id '1' occurs 2 times in en"),
        (
            "text,lang,harm,id",
            "x,en,harmful,1\ny,de,harmless,1",
            "id '1' is harmful in one row and harmless in another",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(header: str, row: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(f"{header}\n{row}\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_prompt_table(path)


def test_a_mapping_must_be_right(tmp_path: Path) -> None:
    path = write(tmp_path, [("x", "en", "harmful", "test", 1)])
    with pytest.raises(MissingColumnError, match="no column 'goal'; columns there: 'text', 'lang'"):
        load_prompt_table(path, columns={"text": "goal"})
    with pytest.raises(DataError, match="nothing is called 'texts'; a column can be named for text, lang"):
        load_prompt_table(path, columns={"texts": "goal"})
