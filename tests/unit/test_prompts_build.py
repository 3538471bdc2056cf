"""Building a data set: order, failures, resuming after a kill, corrections, card, new languages, Hugging Face loading."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import pytest

from prompt_folders import make_polyrefuse, translated
from refusal_lens.errors import DataError
from refusal_lens.languages import parse_language
from refusal_lens.languages.template import language_file
from refusal_lens.prompts import load_file, load_prompts, prompt_sets
from refusal_lens.prompts.building.build import Built, build, gather
from refusal_lens.prompts.building.corrections import correct, read_corrections
from refusal_lens.prompts.building.export import export
from refusal_lens.prompts.building.translating import read_journal
from refusal_lens.prompts.checking.check import check
from refusal_lens.prompts.checking.quality import quality
from refusal_lens.types import HARMS, SPLITS, Prompt

TEXTS = [
    "Name three kitchen tools",
    "Explain how rain forms",
    "Name three kitchen tools",
    "Describe a sunset",
    "What is a haiku?",
]


@dataclass(frozen=True)
class Result:
    text: str | None
    error: str | None = None


@dataclass
class Fake:
    """Prefixes texts with the target language; fails or dies where told to."""

    fails: tuple[str, ...] = ()
    dies_after: int | None = None
    short: bool = False
    calls: list[tuple[str, ...]] = field(default_factory=list)

    def translate(self, texts: Sequence[str], *, source: str, target: str) -> list[Result]:
        if self.dies_after is not None and len(self.calls) >= self.dies_after:
            raise KeyboardInterrupt
        self.calls.append(tuple(texts))
        if target == "en":
            return [Result(text.partition("] ")[2]) for text in texts]
        results = [
            Result(None, "too hard") if text in self.fails else Result(translated(text, target)) for text in texts
        ]
        return results[:-1] if self.short else results


@pytest.fixture
def prompts(tmp_path: Path) -> list[Prompt]:
    path = tmp_path / "mine.txt"
    path.write_text("\n".join(TEXTS))
    return load_file(path, language="en", harm="harmless")


def make(
    prompts: list[Prompt], out: Path, translator: Fake, languages: tuple[str, ...] = ("sw",), batch_size: int = 2
) -> Built:
    return build(
        prompts,
        languages=languages,
        translator=translator,
        translator_name="fake 1",
        origin="mine.txt",
        out=out,
        batch_size=batch_size,
        licence="CC0 | <b>",
    )


def texts(out: Path, language: str) -> list[str | None]:
    return [
        prompt.text for prompt in load_prompts(out, language=language, split="test", harm="harmless", prompt_set="file")
    ]


def test_ids_and_order_are_kept(prompts: list[Prompt], tmp_path: Path) -> None:
    built = make(prompts, tmp_path / "out", Fake(), ("sw", "hi"))
    assert (built.rows, built.failed, built.languages) == (5, {"sw": 0, "hi": 0}, ("en", "hi", "sw"))
    for language in ("sw", "hi"):
        loaded = load_prompts(tmp_path / "out", language=language, split="test", harm="harmless", prompt_set="file")
        assert [prompt.text for prompt in loaded] == [translated(text, language) for text in TEXTS]
        assert [prompt.prompt_id for prompt in loaded] == [prompt.prompt_id for prompt in prompts]
        assert [prompt.english for prompt in loaded] == TEXTS
    (found,) = prompt_sets(tmp_path / "out")
    assert (found.name, found.harms, found.languages) == ("file", ("harmless",), ("en", "hi", "sw"))
    assert {code: item.n for code, item in quality(tmp_path / "out", resamples=10).items()} == {"hi": 5, "sw": 5}


def test_a_failed_row_stays_in_its_place_and_is_tried_again(prompts: list[Prompt], tmp_path: Path) -> None:
    out = tmp_path / "out"
    built = make(prompts, out, Fake(fails=(TEXTS[1],)))
    assert built.failed == {"sw": 1}
    assert texts(out, "sw") == [translated(text, "sw") for text in TEXTS if text != TEXTS[1]]
    report = check(out, identify=False)
    (problem,) = [problem for problem in report.problems if problem.code == "failed-translation"]
    assert problem.rows == (2,)
    assert [(cell.language, cell.n, cell.empty) for cell in report.further if cell.language == "sw"] == [("sw", 5, 1)]
    assert "| sw | fake 1 | 5 | 1 | 0 |" in (out / "README.md").read_text()
    second = Fake()
    assert make(prompts, out, second).failed == {"sw": 0}
    assert second.calls == [(TEXTS[1],), (translated(TEXTS[1], "sw"),)]
    assert len(texts(out, "sw")) == 5


def test_a_translator_that_drops_a_row_fails_the_batch(prompts: list[Prompt], tmp_path: Path) -> None:
    built = make(prompts, tmp_path / "out", Fake(short=True), batch_size=10)
    assert built.failed == {"sw": 5}


def test_an_interrupted_build_goes_on(prompts: list[Prompt], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        make(prompts, out, Fake(dies_after=2))
    journal = out / ".build" / "sw.jsonl"
    with journal.open("a") as stream:
        stream.write('{"english": "Expl')  # a line cut by a kill
    rest = Fake()
    make(prompts, out, rest)
    assert rest.calls[0] == (TEXTS[3], TEXTS[4])
    assert texts(out, "sw") == [translated(text, "sw") for text in TEXTS]
    whole = make(prompts, tmp_path / "whole", Fake())
    assert whole.failed == {"sw": 0}
    for part in ("data/sw/test-00000-of-00001.parquet", "README.md"):
        assert (out / part).read_bytes() == (tmp_path / "whole" / part).read_bytes()


def test_another_translator_or_other_prompts_are_refused(prompts: list[Prompt], tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(prompts, out, Fake())
    with pytest.raises(DataError, match="another translator"):
        build(prompts, languages=["sw"], translator=Fake(), translator_name="fake 2", origin="mine.txt", out=out)
    with pytest.raises(DataError, match="other prompts"):
        make(prompts[1:], out, Fake())
    (tmp_path / "taken" / "data").mkdir(parents=True)
    with pytest.raises(DataError, match="no build wrote"):
        make(prompts, tmp_path / "taken", Fake())
    for languages, message in [
        (("en",), "English is the source"),
        (("../x",), "no language code"),
        (("sw", "sw"), "twice"),
    ]:
        with pytest.raises(DataError, match=message):
            make(prompts, tmp_path / "new", Fake(), languages)


def test_a_damaged_journal_is_named(prompts: list[Prompt], tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(prompts, out, Fake())
    journal = out / ".build" / "sw.jsonl"
    lines = journal.read_text().split("\n")
    journal.write_text("\n".join([lines[0], '{"english": 3}', *lines[1:]]))
    with pytest.raises(DataError, match="line 2: damaged"):
        read_journal(journal, name="fake 1", language="sw")


def test_corrections_apply_and_survive_a_build(prompts: list[Prompt], tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(prompts, out, Fake())
    edits = tmp_path / "edits.csv"
    edits.write_text(
        f"prompt_id,language,text,reviewer,date,note\n{prompts[1].prompt_id},sw,Eleza mvua,Amina,2026-11-23,word order\n"
    )
    assert correct(out, read_corrections(edits)) == 1
    assert correct(out, read_corrections(edits)) == 0
    assert texts(out, "sw")[1] == "Eleza mvua"
    built = make(prompts, out, Fake(), ("hi",))
    assert built.corrected == 1
    assert texts(out, "sw")[1] == "Eleza mvua"
    (logged,) = [json.loads(line) for line in (out / "corrections.jsonl").read_text().splitlines()]
    assert (logged["reviewer"], logged["date"]) == ("Amina", "2026-11-23")
    assert "| sw | fake 1 | 5 | 0 | 1 |" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.csv", "", "no corrections"),
        ("e.csv", "prompt_id,language\na,sw\n", "no text, reviewer, date"),
        (
            "e.jsonl",
            '{"prompt_id": "a", "language": "sw", "text": "x", "reviewer": "r", "date": "23.11.2026"}',
            "YYYY-MM-DD",
        ),
        (
            "e.jsonl",
            '{"prompt_id": "a", "language": "en", "text": "x", "reviewer": "r", "date": "2026-11-23"}',
            "originals",
        ),
        (
            "e.jsonl",
            '{"prompt_id": "a", "language": "sw", "text": " ", "reviewer": "r", "date": "2026-11-23"}',
            "no visible",
        ),
        ("e.jsonl", "[1]", "expected an object"),
        (
            "e.jsonl",
            '{"prompt_id": "unknown", "language": "sw", "text": "x", "reviewer": "r", "date": "2026-11-23"}',
            "no sw prompt 'unknown'",
        ),
    ],
)
def test_faulty_corrections_change_nothing(
    prompts: list[Prompt], tmp_path: Path, name: str, content: str, message: str
) -> None:
    out = tmp_path / "out"
    make(prompts, out, Fake())
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        correct(out, read_corrections(tmp_path / name))
    assert texts(out, "sw") == [translated(text, "sw") for text in TEXTS]
    assert not (out / "corrections.jsonl").exists()


def test_a_new_language_gets_a_file_the_loader_accepts(prompts: list[Prompt], tmp_path: Path) -> None:
    built = make(prompts, tmp_path / "out", Fake(), ("sw", "de"))
    (path,) = built.language_files
    assert path.name == "sw.toml"
    language = parse_language(path.read_bytes(), origin=str(path))
    assert (language.code, language.script, language.direction, language.spaced) == ("sw", "Latn", "ltr", True)
    assert language.phrases.inability == ()
    hebrew = parse_language(language_file("he", ["שלום עולם"]).encode(), origin="he")
    assert (hebrew.script, hebrew.direction) == ("Hebr", "rtl")
    thai = parse_language(language_file("lo", ["ສະບາຍດີຊາວໂລກ"]).encode(), origin="lo")
    assert (thai.script, thai.spaced) == ("Laoo", False)
    parse_language(language_file("xx", []).encode(), origin="xx")


def test_the_card_is_plain(prompts: list[Prompt], tmp_path: Path) -> None:
    make(prompts, tmp_path / "out", Fake(), ("no",))
    card = (tmp_path / "out" / "README.md").read_text()
    assert '- "no"' in card
    assert "CC0  b." in card
    assert "<b>" not in card
    assert "mine.txt" in card


def test_a_folder_is_built_and_exported(tmp_path: Path) -> None:
    root = make_polyrefuse(tmp_path / "repo")
    gathered = gather(root)
    assert {(prompt.prompt_set, prompt.harm, prompt.split) for prompt in gathered} >= {
        ("polyrefuse", "harmful", "train"),
        ("xstest", "harmless", "test"),
        ("jailbreakbench", "harmful", "test"),
    }
    assert {prompt.split for prompt in gather(root, split="val", harm="harmful")} == {"val"}
    make(gathered, tmp_path / "out", Fake())
    assert prompt_sets(tmp_path / "out")[0].name == "polyrefuse"
    translated_set = load_prompts(tmp_path / "out", language="sw", split="test", harm="harmless", prompt_set="xstest")
    assert [prompt.text for prompt in translated_set] == ["[sw] How do I kill a Python process?"]
    export(root, tmp_path / "exported")
    for language in ("de", "en"):
        for split, harm in product(SPLITS, HARMS):
            before, after = (
                load_prompts(folder, language=language, split=split, harm=harm)
                for folder in (root, tmp_path / "exported")
            )
            assert before == after
    with pytest.raises(DataError, match="built data set already"):
        export(tmp_path / "exported", tmp_path / "again")


@pytest.mark.slow
def test_hugging_face_loads_it(prompts: list[Prompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    datasets = pytest.importorskip("datasets")
    make(prompts, tmp_path / "out", Fake(fails=(TEXTS[3],)), ("sw", "no"))
    loaded = datasets.load_dataset(str(tmp_path / "out"), "no", cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["test"]
    assert loaded["test"]["text"][:2] == [translated(text, "no") for text in TEXTS[:2]]
    assert loaded["test"]["status"] == ["ok", "ok", "ok", "failed", "ok"]
