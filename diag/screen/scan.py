"""A data set read through once before any work is done, and a shard at a time while it is done."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from probes.request import cases, records
from probes.request.request import Request
from rome_diagnosis.errors import UserError

OnError = Literal["skip", "refuse"]


@dataclass(frozen=True)
class Scan:
    """A data set, read through once before any work is done.

    Attributes:
        path: The file.
        digest: SHA-256 of its bytes.
        n_rows: Its rows.
        n_malformed: Rows that are no edits.
        notes: What was left out or changed in reading, for people to read.
    """

    path: str
    digest: str
    n_rows: int
    n_malformed: int
    notes: tuple[str, ...] = ()


def scan(path: str, *, on_error: OnError = "skip") -> Scan:
    """Reads a data set through once: counts, digests, and finds what is no edit.

    Args:
        path: The file.
        on_error: ``refuse`` makes a malformed row end the run here.

    Returns:
        What it holds.

    Raises:
        UserError: If the file cannot be read, none of its rows is an edit, or one is not and that
            is to be refused.
    """
    n_rows, malformed, example = 0, 0, ""
    notes = records.Notes()
    for row in records.rows(path):
        n_rows += 1
        request, problem = read_row(row)
        if request is not None:
            notes.add(row.record, request.notes)
        if problem is not None:
            malformed += 1
            example = example or problem
            if on_error == "refuse":
                raise UserError(f"{path}: {problem} (--on-error skip keeps such rows as errors)")
        if malformed == n_rows == records.HOPELESS:
            break
    if malformed == n_rows:
        raise records.none_is_an_edit(path, n_rows, example)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return Scan(path, digest.hexdigest(), n_rows, malformed, notes.lines())


def read_row(row: records.Row) -> tuple[Request | None, str | None]:
    """A row's edit, or why it is none."""
    if row.error is not None:
        return None, f"{row.place}: {row.error}"
    try:
        return cases.edit(row.record), None
    except UserError as error:
        return None, f"{row.place}: {error}"


def shards(path: str, size: int) -> Iterator[tuple[int, list[records.Row]]]:
    """A data set's rows, ``size`` at a time, each part with the number of the shard."""
    rows = records.rows(path)
    for index in itertools.count():
        shard = list(itertools.islice(rows, size))
        if not shard:
            return
        yield index, shard
