"""A user's file as rows, by its suffix: CSV, TSV, Parquet, JSON, JSON Lines, or one text a line.

| suffix | rows |
|---|---|
| `.csv` | a header and records (RFC 4180: quoted cells may hold line ends); commas, semicolons, tabs or bars |
| `.tsv` | the same with tabs |
| `.parquet` | one object a row |
| `.json` | a list of texts or objects |
| `.jsonl`, `.ndjson` | a text or an object a line |
| `.txt`, none | JSON or JSON Lines when it begins and parses like one; otherwise, with `.txt`, one text a line |

Whatever could be read in two ways is refused: another suffix, a record with more or fewer cells than the header, an
unclosed quote, a `.txt` file whose first line is the header of a table. Guesses no encoding and drops no record but blank ones.
"""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq

from refusal_lens.errors import DataError
from refusal_lens.prompts.loading.texts import as_text, clean_text, kind_of, parse_json, read_bytes, text_fault
from refusal_lens.types import JsonValue

logger = logging.getLogger(__name__)

SUFFIXES = (".csv", ".tsv", ".parquet", ".json", ".jsonl", ".ndjson", ".txt")

_DELIMITERS = ",;\t|"
_WORD = re.compile(r"[A-Za-z_]\w*")
_SHOWN_COLUMNS = 12
_MAX_ID = 200


@dataclass(frozen=True)
class Row:
    """One entry of a file: a text, or an object by column; `where` names it in messages."""

    where: str
    value: JsonValue

    def fields(self) -> dict[str, JsonValue]:
        """The entry by column; a bare text is its own `text`."""
        if isinstance(self.value, str):
            return {"text": self.value}
        if not isinstance(self.value, dict):
            raise DataError(f"{self.where}: expected a text or an object with a text, found {kind_of(self.value)}")
        return self.value

    def written(self, *names: str) -> str | None:
        """How the entry writes the first of some column names that it has, in any case; None where it has none."""
        fields = self.fields()
        for name in names:
            if name in fields:
                return name
            for key in fields:
                if key.casefold() == name.casefold():
                    return key
        return None

    def optional(self, *names: str) -> str | None:
        """The checked text under the first of some names; None where it is absent, null or an empty cell."""
        key = self.written(*names)
        value = None if key is None else self.fields()[key]
        return None if value is None or value == "" else clean_text(value, self.where, name=names[0])

    def given_id(self, *names: str) -> str | None:
        """The id under the first of some names: a short plain text or a whole number; None where it is absent or null."""
        key = self.written(*names)
        value = None if key is None else self.fields()[key]
        if value is None:
            return None
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str):
            raise DataError(f"{self.where}: the id is {kind_of(value)}; write it as a text or a whole number")
        if text_fault(text) is not None or len(text) > _MAX_ID or not text.isprintable():
            raise DataError(
                f"{self.where}: the id is empty, longer than {_MAX_ID} characters or not printable; write a short plain text"
            )
        return text


@dataclass(frozen=True)
class TextTable:
    """A file's rows.

    Attributes:
        file: The file.
        columns: Names of its columns in order, as written; empty where it holds nothing but texts.
        rows: Its rows in order.
    """

    file: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def named(self, wanted: Collection[str]) -> str | None:
        """The column that has one of some names: the first name that is there, written the same or in another case."""
        for name in wanted:
            found = [column for column in self.columns if column == name] or [
                column for column in self.columns if column.casefold() == name.casefold()
            ]
            if len(found) > 1:
                raise DataError(f"{self.file}: {len(found)} columns are called {name!a}; rename one of them")
            if found:
                return found[0]
        return None

    def listed(self) -> str:
        """The columns' names, for messages."""
        shown = ", ".join(ascii(name[:40]) for name in self.columns[:_SHOWN_COLUMNS]) or "none"
        return shown + (", .." if len(self.columns) > _SHOWN_COLUMNS else "")


def read_rows(file: Path, *, headers: Collection[str] = ()) -> TextTable:
    """Read a file as rows."""
    suffix = file.suffix.lower()
    if suffix not in (*SUFFIXES, ""):
        raise DataError(
            f"{file}: cannot read {suffix} files; save it as one of {', '.join(SUFFIXES)} "
            "(.txt: one prompt a line; the others: by column)"
        )
    raw = read_bytes(file)
    if suffix == ".parquet":
        return _parquet(file, raw)
    text = as_text(raw, file)
    if suffix in {".csv", ".tsv"}:
        return _delimited(file, text, "\t" if suffix == ".tsv" else _DELIMITERS)
    if suffix == ".json":
        return _objects(file, _json_rows(text, file))
    if suffix in {".jsonl", ".ndjson"}:
        return _objects(file, _json_lines(text, file))
    reader = {"[": _json_rows, "{": _json_lines}.get(text.lstrip()[:1])
    if reader is not None:
        try:
            return _objects(file, reader(text, file))
        except DataError:
            logger.debug("%s: not JSON", file)
    if not suffix:
        raise DataError(
            f"{file}: no suffix says what it is; name it .txt (one prompt a line) or {', '.join(SUFFIXES[:-1])}"
        )
    lines = _lines(text)
    if lines and _is_header(lines[0][1], headers):
        raise DataError(
            f"{file}: its first line is the header of a table ({lines[0][1][:60]!a}); name the file .csv or .tsv to "
            "read it by column, or remove that line"
        )
    return TextTable(file, (), tuple(Row(f"{file}, line {number}", line) for number, line in lines))


def _lines(text: str) -> list[tuple[int, str]]:
    # Not splitlines(): U+2028, U+0085 and form feeds may stand inside a prompt or a JSON text.
    return [(number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _is_header(line: str, headers: Collection[str]) -> bool:
    for delimiter in _DELIMITERS:
        cells = [cell.strip('"') for cell in line.split(delimiter)]
        if all(map(_WORD.fullmatch, cells)) and {cell.casefold() for cell in cells} & set(headers):
            return True
    return False


def _json_rows(text: str, file: Path) -> list[Row]:
    value = parse_json(text, str(file))
    if not isinstance(value, list):
        raise DataError(f"{file}: expected a JSON list of texts or objects, found {kind_of(value)}")
    return [Row(f"{file}, row {number}", entry) for number, entry in enumerate(value, start=1)]


def _json_lines(text: str, file: Path) -> list[Row]:
    return [Row(f"{file}, line {number}", parse_json(line, f"{file}, line {number}")) for number, line in _lines(text)]


def _objects(file: Path, rows: list[Row]) -> TextTable:
    columns = dict.fromkeys(name for row in rows if isinstance(row.value, dict) for name in row.value)
    return TextTable(file, tuple(columns), tuple(rows))


def _parquet(file: Path, raw: bytes) -> TextTable:
    try:
        table = pq.read_table(pa.BufferReader(raw))
        names, records = table.column_names, cast("list[dict[str, JsonValue]]", table.to_pylist())
    except (OSError, ValueError, pa.ArrowException) as error:  # damaged names and texts are decoded late
        reason = ascii(str(error).partition("\n")[0][:200])
        raise DataError(f"{file}: not a readable Parquet file ({reason}); write or fetch it again") from None
    return TextTable(
        file, tuple(names), tuple(Row(f"{file}, row {n}", record) for n, record in enumerate(records, start=1))
    )


def _delimited(file: Path, text: str, delimiters: str) -> TextTable:
    """The table under the delimiter that splits the header into most cells and every record into as many.

    No statistics over the content: a comma inside a prompt is as likely as one between cells.
    """
    header = {delimiter: _header(text, delimiter) for delimiter in delimiters}
    most = max(len(cells) for cells in header.values())
    fault: DataError | None = None
    for delimiter in delimiters:
        if len(header[delimiter]) == most:
            try:
                return _records(file, text, delimiter)
            except DataError as error:
                fault = fault or error
    assert fault is not None
    raise fault


def _header(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:  # said with its line by `_records`
        return []


def _records(file: Path, text: str, delimiter: str) -> TextTable:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: tuple[str, ...] | None = None
    rows: list[Row] = []
    line = 1
    try:
        for cells in reader:
            where, line = f"{file}, line {line}", reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue  # Spreadsheets write such rows below the last one.
            if columns is None:
                columns = tuple(cell.strip() for cell in cells)
                continue
            if len(cells) != len(columns):
                raise DataError(
                    f"{where}: {len(cells)} cells under a header of {len(columns)}; put a text that holds "
                    f"{delimiter!a}, a quote or a line end in double quotes"
                )
            rows.append(Row(where, dict(zip(columns, cells, strict=True))))
    except csv.Error as error:
        raise DataError(
            f"{file}, line {line}: broken CSV ({error}); close every quote and double those inside"
        ) from None
    return TextTable(file, columns or (), tuple(rows))
