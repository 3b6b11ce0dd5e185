"""The one way from a file to rows, whatever container it is.

The content decides what a file is; its name only where the content does not say. A row that cannot
be read stays a row, with its place and the reason; the rows around it are read all the same.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from probes.reading import tables
from probes.reading.json_stream import (
    DECODER,
    BrokenJson,
    JsonStream,
    Undecoded,
    elements,
    values,
)
from rome_diagnosis import source
from rome_diagnosis.errors import UserError

Container = Literal["array", "objects", "lines", "csv", "parquet", "other"]
Item = tuple[int | None, Any, str | None]  # line, record, error

START = 4096  # bytes that show what a file is
NOT_UTF8 = "is not UTF-8 text"
_ARRAY = re.compile(rb'\[\s*([{"\]]|$)')  # other brackets begin sentences too
_OBJECT = re.compile(rb'\{\s*(["}]|$)')


@dataclass(frozen=True)
class Row:
    """One row of a file.

    Attributes:
        row: Its index among the rows, from 0.
        line: The line of the file at which it begins, from 1; ``None`` where there are no lines.
        record: What stands there; ``None`` if it could not be read.
        error: Why not.
        entry: Its number among several in one JSON object, from 0; ``None`` if it stands alone.
    """

    row: int
    line: int | None
    record: Any = None
    error: str | None = None
    entry: int | None = None

    @property
    def place(self) -> str:
        """Where it is, as messages say it."""
        at = f"row {self.row}" if self.line is None else f"line {self.line}"
        return at if self.entry is None else f"{at}, entry {self.entry}"


def rows(path: source.StrPath, *, what: str, needed: tables.Needed = ()) -> Iterator[Row]:
    """Reads a file row by row, however large it is.

    Args:
        path: A JSON array, JSON Lines, JSON objects one after another, CSV with a header line, or
            Parquet; each may be gzipped. What is none of these is read as JSON Lines.
        what: What messages call the file, e.g. ``the edits``.
        needed: Groups of column names; a table needs one of each.

    Yields:
        Its rows, in order; a record that cannot be read is a row with an error.

    Raises:
        UserError: If the file cannot be read, has no rows, lacks a needed column, or is a JSON
            array that is broken in the middle.
    """
    number = -1
    with source.opened(path, what) as file:
        try:
            kind = _container(path, _start(file), needed)
            for number, (line, record, error) in enumerate(_items(kind, file, needed)):
                yield Row(number, line, record, error)
        except BrokenJson as error:
            raise UserError(f"{what} {path} are broken at line {error.line}: {error}") from error
        except tables.BrokenTable as error:
            raise UserError(f"cannot read {what} {path}: {error}") from error
    if number < 0:
        raise UserError(f"cannot read {what} {path}: there are no rows in it")


def container(path: source.StrPath, *, what: str, needed: tables.Needed = ()) -> Container:
    """What a file is.

    Args:
        path: The file; endings of its name count with or without ``.gz``.
        what: What messages call it.
        needed: Columns by which a table's header is known where the name does not say.

    Returns:
        The container; ``other`` if it is none that has records.

    Raises:
        UserError: If it cannot be read.
    """
    with source.opened(path, what) as file:
        return _container(path, _start(file), needed)


def _start(file: IO[bytes]) -> bytes:
    start = file.read(START)
    file.seek(0)
    return start


def _container(path: source.StrPath, start: bytes, needed: tables.Needed) -> Container:
    ending = Path(Path(path).name.lower().removesuffix(".gz")).suffix
    is_json, in_lines = ending == ".json", ending in (".jsonl", ".ndjson")
    text = start.removeprefix(source.BOM).lstrip()
    if start.startswith(b"PAR1"):
        return "parquet"
    if ending in (".csv", ".tsv"):
        return "csv"
    if _ARRAY.match(text) or (is_json and text.startswith(b"[")):
        return "array"
    if _OBJECT.match(text):
        return "objects" if _spans_lines(text) else "lines"
    if is_json or in_lines:
        return "lines"
    header = text.split(b"\n", 1)[0].decode("utf-8", "replace")
    known = needed and not tables.missing(tables.dialect(header, needed)[1], needed)
    return "csv" if known else "other"


def _spans_lines(text: bytes) -> bool:
    """Whether a text begins with a JSON value that goes on after its first line."""
    decoded = text.decode("utf-8", "surrogateescape")
    try:
        DECODER.decode(decoded.partition("\n")[0])
        return False
    except (ValueError, RecursionError):
        stream = JsonStream(io.StringIO(decoded))
    try:
        stream.value()
    except BrokenJson as error:
        return error.cut_off and "\n" in decoded
    return stream.line > 1


def _items(kind: Container, file: IO[bytes], needed: tables.Needed) -> Iterator[Item]:
    if kind == "array":
        yield from _checked(elements(JsonStream(_text(file))))
    elif kind == "csv":
        for line, cells in tables.csv_rows(file, needed):
            if isinstance(cells, str):
                yield line, None, cells
            else:
                yield line, cells, None
    elif kind == "parquet":
        for record in tables.parquet_rows(file, needed):
            yield None, record, None
    elif kind == "objects" and _first_is_complete(file):
        yield from _checked(values(JsonStream(_text(file))))
    else:
        yield from _json_lines(file)


def _text(file: IO[bytes]) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="\n")


def _checked(values: Iterator[tuple[int, Any]]) -> Iterator[Item]:
    for line, value in values:
        undecoded = isinstance(value, Undecoded)
        yield (line, None, NOT_UTF8) if undecoded else (line, value, None)


def _first_is_complete(file: IO[bytes]) -> bool:
    """Whether a file's first value can be read; if not, it may be a broken line among good ones."""
    text = _text(file)
    try:
        JsonStream(text).value()
        return True
    except BrokenJson:
        return False
    finally:
        text.detach()
        file.seek(0)


def _json_lines(file: IO[bytes]) -> Iterator[Item]:
    for line, raw in source.lines(file):
        if not raw.strip():
            continue
        try:
            yield line, DECODER.decode(raw.decode("utf-8")), None
        except UnicodeDecodeError:
            yield line, None, NOT_UTF8
        except json.JSONDecodeError as error:
            problem = error.msg.removesuffix(" at")
            yield line, None, f"is not JSON: {problem} at character {error.pos}"
        except RecursionError:
            yield line, None, "is not JSON: it is nested too deeply"
