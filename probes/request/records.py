"""The one reader of edit files: any container, any format, row by row.

A record that cannot be read as an edit stays a row, with its place and the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from probes.reading import rows as reading
from probes.reading.rows import Row
from probes.request.cases import NAMES, EditCase, from_record, unused
from rome_diagnosis.errors import UserError

WHAT = "the edits"
REWRITE = ("requested_rewrite",)
NEEDED = (NAMES["subject"] + REWRITE, NAMES["prompt"] + REWRITE)
# Reading stops after this many rows without a single edit.
HOPELESS = 10_000


@dataclass(frozen=True)
class Refused:
    """A record that is not an edit.

    Attributes:
        index: Its index among the rows, from 0.
        reason: Why not.
        place: Where it is, as messages say it, e.g. ``line 3``.
    """

    index: int
    reason: str
    place: str


@dataclass(frozen=True)
class Edits:
    """What a file of edits holds.

    Attributes:
        cases: The edits, in order.
        refused: The records that are not edits.
        notes: What was left out or changed in reading, for people to read.
        indices: The index of each edit among the rows; empty where every row is an edit.
    """

    cases: tuple[EditCase, ...]
    refused: tuple[Refused, ...] = ()
    notes: tuple[str, ...] = ()
    indices: tuple[int, ...] = ()

    def index(self, i: int) -> int:
        """Index among the rows, from 0, of the edit that is ``cases[i]``."""
        return self.indices[i] if self.indices else i


class Notes:
    """Collects, over the records of a file, what people should know about how they were read."""

    def __init__(self) -> None:
        """Begins without any."""
        self._unused: dict[str, None] = {}
        self._counts: dict[str, int] = {}

    def add(self, record: Any, notes: Iterable[str] = ()) -> None:
        """Takes a record's unused fields and what was noted about it."""
        self._unused.update(dict.fromkeys(sorted(unused(record))))
        for note in notes:
            self._counts[note] = self._counts.get(note, 0) + 1

    def lines(self) -> tuple[str, ...]:
        """One line for each kind."""
        lines = [
            f"{note} ({count} {'record' if count == 1 else 'records'})"
            for note, count in self._counts.items()
        ]
        if self._unused:
            lines.append(f"fields that are not used: {', '.join(self._unused)}")
        return tuple(lines)


def read_edits(path: str | os.PathLike[str], *, limit: int | None = None) -> Edits:
    """Reads a file of edits with everything that tests them.

    Args:
        path: See :func:`rows`.
        limit: Read only the first N edits.

    Returns:
        The edits in order, and the records that are not edits, with the reason.

    Raises:
        UserError: If it cannot be read, or none of its records is an edit.
    """
    cases: list[EditCase] = []
    refused: list[Refused] = []
    indices: list[int] = []
    notes = Notes()
    for row in rows(path):
        try:
            if row.error is not None:
                raise UserError(row.error)
            cases.append(from_record(row.record))
            indices.append(row.row)
            notes.add(row.record, cases[-1].request.notes)
        except UserError as error:
            refused.append(Refused(row.row, str(error), row.place))
        if len(cases) == limit or (not cases and len(refused) == HOPELESS):
            break
    if not cases:
        raise none_is_an_edit(path, len(refused), f"{refused[0].place}: {refused[0].reason}")
    return Edits(tuple(cases), tuple(refused), notes.lines(), tuple(indices))


def rows(path: str | os.PathLike[str]) -> Iterator[Row]:
    """Reads a file of edits row by row, without holding it.

    Args:
        path: A JSON array, JSON Lines, JSON objects, CSV or Parquet, each also gzipped; see
            :func:`probes.reading.rows.rows`. EasyEdit's parallel lists are as many rows as they are
            long.

    Yields:
        Its rows, in order; a record that cannot be read is a row with an error.

    Raises:
        UserError: If the file cannot be read, has no rows, or is a JSON array that is broken in the
            middle.
    """
    number = 0
    for row in reading.rows(path, what=WHAT, needed=NEEDED):
        for part in _apart(row):
            yield Row(number, part.line, part.record, part.error, part.entry)
            number += 1


def none_is_an_edit(path: str | os.PathLike[str], n: int, example: str) -> UserError:
    """The error for a file whose first ``n`` rows, or all, are no edits; ``example`` says why."""
    if n == 1:
        return UserError(f"the one row of {path} is no edit: {example}")
    count = f"first {n}" if n == HOPELESS else str(n)
    return UserError(f"none of the {count} rows of {path} is an edit: {example}")


def _apart(row: Row) -> Iterator[Row]:
    """A row by itself, or one for each entry of parallel lists."""
    if not isinstance(row.record, Mapping):
        yield row
        return
    record = row.record
    lists = {
        name: record[name]
        for name in (*NAMES["prompt"], *NAMES["subject"])
        if isinstance(record.get(name), list)
    }
    if not lists:
        yield row
        return
    first, values = next(iter(lists.items()))
    for entry in range(len(values)):
        try:
            part = {name: _entry(value, entry, len(values), name) for name, value in record.items()}
        except UserError as error:
            problem = f"{error} where {first} has {len(values)}"
            yield Row(row.row, row.line, error=problem)
            return
        yield Row(row.row, row.line, part, entry=entry)
    if not values:
        yield Row(row.row, row.line, error=f"its list of {first} is empty")


def _entry(value: Any, entry: int, n: int, name: str) -> Any:
    """What one entry has of a parallel list, or of groups of parallel lists."""
    if isinstance(value, Mapping):
        return {key: _entry(item, entry, n, str(key)) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    if len(value) != n:
        raise UserError(f"{name} has {len(value)} entries")
    return value[entry]
