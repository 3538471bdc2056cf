"""What a translator must offer, and translating with a journal so that no finished row is ever done twice.

The journal is a file of JSON lines, one per English text: its translation and back-translation, or the error. It begins
with a line that says which translator wrote it; another translator's journal is refused. A row that failed is tried
again by the next run; a half-written last line (a kill, a full disk) is dropped.

Translators live in `refusal_lens.judging`; this room knows only their shape.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from refusal_lens.core.files import PUBLIC_FILE, storing, write_atomic
from refusal_lens.errors import DataError
from refusal_lens.prompts.loading.cell import ENGLISH
from refusal_lens.prompts.loading.texts import read_text, row_fault


@runtime_checkable
class TranslationLike(Protocol):
    """A translation, or the reason why there is none."""

    @property
    def text(self) -> str | None:
        """The translation; None when it failed."""
        ...

    @property
    def error(self) -> str | None:
        """Why it failed; None when it did not."""
        ...


@runtime_checkable
class TranslatorLike(Protocol):
    """Anything that translates."""

    def translate(self, texts: Sequence[str], *, source: str, target: str) -> Sequence[TranslationLike]:
        """One result per text, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Translated:
    """A text's translation and back-translation; `error` says what failed, if anything."""

    english: str
    text: str | None
    back: str | None
    error: str | None


def translate_all(
    texts: Sequence[str],
    *,
    language: str,
    translator: TranslatorLike,
    name: str,
    journal: Path,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Translated]:
    """Translate and back-translate every text, going on from the journal."""
    done = read_journal(journal, name=name, language=language)
    finished = {text for text, item in done.items() if item.error is None}
    todo = [text for text in dict.fromkeys(texts) if text not in finished]
    if progress is not None:
        progress(len(set(texts)) - len(todo))
    for start in range(0, len(todo), batch_size):
        batch = todo[start : start + batch_size]
        results = _both_ways(batch, language, translator)
        _append(journal, results)
        done.update((result.english, result) for result in results)
        if progress is not None:
            progress(len(batch))
    return {text: done[text] for text in texts}


def read_journal(journal: Path, *, name: str, language: str) -> dict[str, Translated]:
    """Read a journal, or begin one."""
    header: dict[str, object] = {"schema_version": 1, "translator": name, "language": language}
    if not journal.exists():
        write_atomic(journal, (json.dumps(header) + "\n").encode(), mode=PUBLIC_FILE)
        return {}
    first, *lines = read_text(journal).split("\n")
    if _parsed(first) != header:
        raise DataError(
            f"{journal}: begun with another translator or language; remove it to begin anew, or choose another --out"
        )
    done: dict[str, Translated] = {}
    for number, line in enumerate(lines, start=2):
        record = _parsed(line)
        if record is None and number == len(lines) + 1:
            if line:
                write_atomic(journal, ("\n".join([first, *lines[:-1]]) + "\n").encode(), mode=PUBLIC_FILE)
            break
        values = [record.get(key) if record else 0 for key in ("english", "text", "back", "error")]
        if not isinstance(values[0], str) or not all(isinstance(value, str | None) for value in values):
            raise DataError(f"{journal}, line {number}: damaged; remove the line, its text is then translated again")
        done[values[0]] = Translated(*cast("list[str]", values))
    return done


def _parsed(line: str) -> dict[str, object] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _append(journal: Path, results: Sequence[Translated]) -> None:
    with storing(journal), journal.open("ab") as stream:
        stream.write("".join(json.dumps(asdict(result)) + "\n" for result in results).encode())
        stream.flush()
        os.fsync(stream.fileno())


def _both_ways(batch: Sequence[str], language: str, translator: TranslatorLike) -> list[Translated]:
    forward = _one_way(batch, ENGLISH, language, translator)
    there = [text for text, _ in forward if text is not None]
    back = iter(_one_way(there, language, ENGLISH, translator) if there else [])
    results: list[Translated] = []
    for english, (text, error) in zip(batch, forward, strict=True):
        if text is None:
            results.append(Translated(english, None, None, error))
        else:
            returned, fault = next(back)
            results.append(Translated(english, text, returned, None if fault is None else f"back-translation: {fault}"))
    return results


def _one_way(
    texts: Sequence[str], source: str, target: str, translator: TranslatorLike
) -> list[tuple[str | None, str | None]]:
    results = translator.translate(texts, source=source, target=target)
    if len(results) != len(texts):
        fault = f"the translator gave {len(results)} results for {len(texts)} texts"
        return [(None, fault)] * len(texts)
    found: list[tuple[str | None, str | None]] = []
    for result in results:
        fault = result.error or (f"the translation {row_fault(result.text)}" if row_fault(result.text) else None)
        found.append((None if fault else result.text, fault))
    return found
