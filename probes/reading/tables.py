"""Tables: CSV with whatever delimiter its header shows, and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Sequence
from typing import IO, Any

from rome_diagnosis.source import lines

DELIMITERS = ",;\t"
BATCH = 256  # rows of Parquet held at once

Needed = Sequence[Collection[str]]  # of each group, one column must be there


class BrokenTable(ValueError):
    """A table without the columns that are needed."""


def missing(columns: Sequence[str], needed: Needed) -> list[str]:
    """Those of the needed columns, named by the first of their group, that are not there."""
    return [next(iter(group)) for group in needed if not set(group) & set(columns)]


def dialect(header: str, needed: Needed) -> tuple[str, list[str]]:
    """The delimiter under which a header line shows most of the needed columns, and the columns.

    Args:
        header: The first line of a table.
        needed: Groups of column names.

    Returns:
        The delimiter, and the names of the columns without the spaces around them.
    """
    best: tuple[str, list[str]] = (",", [])
    for delimiter in DELIMITERS:
        try:
            (cells,) = csv.reader([header], delimiter=delimiter, skipinitialspace=True, strict=True)
        except (csv.Error, ValueError):
            continue
        columns = [cell.strip() for cell in cells]
        if not best[1] or len(missing(columns, needed)) < len(missing(best[1], needed)):
            best = delimiter, columns
    return best


class _Lines:
    """A file's lines for :func:`csv.reader`, which can be handed back."""

    def __init__(self, file: IO[bytes]) -> None:
        self._lines = lines(file)
        self._back: list[tuple[int, str | UnicodeDecodeError]] = []
        self.taken: list[tuple[int, str | UnicodeDecodeError]] = []  # of the row at hand

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._back:
            item = self._back.pop()
        else:
            number, raw = next(self._lines)
            try:
                item = number, raw.decode("utf-8")
            except UnicodeDecodeError as error:
                item = number, error
        self.taken.append(item)
        if isinstance(item[1], UnicodeDecodeError):
            raise item[1]
        return item[1]

    def hand_back(self, after: int) -> None:
        """Gives back the lines of this row except the first ``after``."""
        self._back += reversed(self.taken[after:])
        del self.taken[after:]


def csv_rows(file: IO[bytes], needed: Needed) -> Iterator[tuple[int, dict[str, str | None] | str]]:
    """The rows of a CSV table with a header line.

    A quote that is left open would swallow the lines after it: a row of several lines that does not
    fit the header is one broken line, and the others are read again on their own.

    Args:
        file: The table's bytes, at the start.
        needed: Groups of column names; of each, one must be there.

    Yields:
        The line at which each row begins, and its cells, ``None`` for empty ones; or, for a row
        that cannot be read, why not.

    Raises:
        BrokenTable: If the header lacks a column, or names one twice.
        UnicodeDecodeError: If the header is not UTF-8.
    """
    source = _Lines(file)
    header = ""
    while not header.strip():
        line = next(source, None)
        if line is None:
            return
        header = line
    delimiter, columns = dialect(header, needed)
    if absent := missing(columns, needed):
        raise BrokenTable(f"it has no column {' or '.join(absent)} in its first line")
    if twice := [name for name in columns if name and columns.count(name) > 1]:
        raise BrokenTable(f"it has two columns {twice[0]}")
    spaced = f"{delimiter} " in header
    reader = csv.reader(source, delimiter=delimiter, skipinitialspace=spaced, strict=True)
    while True:
        source.taken = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except UnicodeDecodeError:
            cells, problem = [], "is not UTF-8 text"
        except csv.Error as error:
            cells, problem = [], f"is not CSV: {error}"
        else:
            if not cells:
                continue
            problem = f"has {len(cells)} cells where the header has {len(columns)}"
        line_number = source.taken[0][0]
        if len(cells) == len(columns):
            yield line_number, _record(columns, cells)
        else:
            source.hand_back(1)
            yield line_number, problem


def _record(columns: Sequence[str], cells: Sequence[str]) -> dict[str, str | None]:
    return {name: cell or None for name, cell in zip(columns, cells, strict=True) if name}


def parquet_rows(file: IO[bytes], needed: Needed) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet table.

    Args:
        file: Its bytes.
        needed: As in :func:`csv_rows`.

    Yields:
        The rows.

    Raises:
        BrokenTable: If it lacks a column, or cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.PythonFile(file, mode="r"))
        if absent := missing(table.schema_arrow.names, needed):
            raise BrokenTable(f"it has no column {' or '.join(absent)}")
        for batch in table.iter_batches(batch_size=BATCH):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError, MemoryError, OverflowError, UnicodeDecodeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise BrokenTable(f"it is damaged: {reason or type(error).__name__}") from error
