"""Files of edits, read row by row: ROME's and EasyEdit's JSON, JSON Lines, CSV.

A file may be larger than memory, so a JSON array is taken apart as it is read. Whatever cannot be
read as an edit stays a row, with its line and the reason.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from probes.request.request import Request, request
from rome_diagnosis.errors import UserError

CHUNK = 1 << 20
LARGEST_RECORD = 1 << 26  # characters; a longer one is a file that was taken for the wrong format
PROMPTS = ("prompt", "src")  # zsRE's questions are called src


@dataclass(frozen=True)
class Row:
    """One row of a data set.

    Attributes:
        row: Its index among the rows, from 0.
        line: The line of the file it begins at, from 1.
        record: What stands there; ``None`` if it could not be read.
        error: Why not.
    """

    row: int
    line: int
    record: Any = None
    error: str | None = None


def rows(path: str | os.PathLike[str]) -> Iterator[Row]:
    """Reads a data set.

    Args:
        path: ``.csv`` and ``.tsv`` with a header line, ``.jsonl`` and ``.ndjson`` with one object
            a line; anything else is a JSON array or JSON Lines, as its first character says.

    Yields:
        Its rows, in order; a record that cannot be read is a row with an error.

    Raises:
        UserError: If the file cannot be read, holds no rows, or is a JSON array that breaks off
            or is broken in the middle.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
        kind = path.suffix.lower()
        if kind in (".csv", ".tsv"):
            with open(path, encoding="utf-8-sig", newline="") as text:
                found = _csv(text, "\t" if kind == ".tsv" else ",", path)
                yield from _never_empty(found, path)
        elif start.startswith(b"[") and kind not in (".jsonl", ".ndjson"):
            with open(path, encoding="utf-8-sig") as text:
                yield from _never_empty(_array(text, path), path)
        else:
            with open(path, "rb") as file:
                yield from _never_empty(_lines(file), path)
    except OSError as error:
        raise UserError(f"cannot read the data set {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"the data set {path} is not UTF-8 text: {error}") from error


def edit(record: Any) -> Request:
    """The edit a record asks for; what tests it is not looked at.

    Args:
        record: In ROME's or EasyEdit's form.

    Returns:
        The request.

    Raises:
        UserError: If there is no subject or prompt, or no single place for the subject.
    """
    if not isinstance(record, Mapping):
        raise UserError(f"an object is expected, not one of type {type(record).__name__}")
    rewrite = record.get("requested_rewrite", record)
    if isinstance(rewrite, Sequence) and not isinstance(rewrite, str) and len(rewrite) == 1:
        rewrite = rewrite[0]
    if not isinstance(rewrite, Mapping):
        raise UserError("requested_rewrite is no object")
    prompt = next((rewrite[name] for name in PROMPTS if rewrite.get(name) is not None), None)
    subject = rewrite.get("subject")
    for name, value in (("subject", subject), ("prompt", prompt)):
        if not isinstance(value, str):
            found = "is missing" if value is None else f"is of type {type(value).__name__}"
            raise UserError(f"{name} {found}; expected a text")
    return request(str(subject), str(prompt))


def case_id(record: Any) -> str | None:
    """The data set's own name for a record, where it has one."""
    found = record.get("case_id") if isinstance(record, Mapping) else None
    # JSON can escape half a character, which no table can hold.
    return None if found is None else str(found).encode("utf-8", "replace").decode("utf-8")


def for_verify(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as ``diag.verify --edits`` reads it: zsRE's names replaced, all else as it was.

    Args:
        record: One that :func:`edit` reads.

    Returns:
        The record.
    """
    made = dict(record)
    for old, new in (("src", "prompt"), ("alt", "target_new"), ("answers", "ground_truth")):
        if old in made and new not in made:
            made[new] = made.pop(old)
    return made


def _never_empty(found: Iterator[Row], path: Path) -> Iterator[Row]:
    empty = True
    for row in found:
        empty = False
        yield row
    if empty:
        raise UserError(f"the data set {path} holds no rows")


def _lines(file: IO[bytes]) -> Iterator[Row]:
    """JSON Lines: a broken line breaks nothing else."""
    row = 0
    for line, raw in enumerate(file, 1):
        if line == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if not raw.strip():
            continue
        try:
            yield Row(row, line, json.loads(raw.decode("utf-8")))
        except UnicodeDecodeError:
            yield Row(row, line, error="is not UTF-8 text")
        except (json.JSONDecodeError, RecursionError) as error:
            yield Row(row, line, error=f"is not JSON: {error}")
        row += 1


def _csv(file: IO[str], delimiter: str, path: Path) -> Iterator[Row]:
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    header = next(reader, None)
    if header is None:
        return
    if "subject" not in header or not set(PROMPTS) & set(header):
        raise UserError(
            f"{path} has no columns subject and prompt in its first line, but {', '.join(header)}"
        )
    row = 0
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # An open quote swallows lines: say which.
            yield Row(row, line, error=f"lines {line} to {reader.line_num} are not CSV: {error}")
            row += 1
            continue
        if not fields:
            continue
        if len(fields) != len(header):
            problem = f"has {len(fields)} fields where the header has {len(header)}"
            yield Row(row, line, error=problem)
        else:
            yield Row(row, line, dict(zip(header, fields, strict=True)))
        row += 1


class _Array:
    """The text of a JSON array, as far as it has been read."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self.file, self.path = file, path
        self.text, self.position, self.line, self.ended = "", 0, 1, False

    def more(self) -> None:
        """Reads on, and forgets what is behind."""
        self.text = self.text[self.position :]
        self.position = 0
        # Reading as much again as is there keeps a long record from being parsed too often.
        chunk = self.file.read(max(CHUNK, len(self.text)))
        self.text += chunk
        self.ended = not chunk

    def skip(self, to: int) -> None:
        """Moves on, counting lines."""
        self.line += self.text.count("\n", self.position, to)
        self.position = to

    def next(self) -> str:
        """The next character that is no white space, or the empty text at the end."""
        while True:
            here = self.position
            while here < len(self.text) and self.text[here].isspace():
                here += 1
            self.skip(here)
            if here < len(self.text):
                return self.text[here]
            if self.ended:
                return ""
            self.more()

    def broken(self, problem: str) -> UserError:
        """An error that says where."""
        return UserError(f"{self.path} is a broken JSON array at line {self.line}: {problem}")


def _array(file: IO[str], path: Path) -> Iterator[Row]:
    text, decoder, row = _Array(file, path), json.JSONDecoder(), 0
    text.next()
    text.skip(text.position + 1)
    if text.next() == "]":
        return
    while True:
        if text.next() == "":
            raise text.broken("it breaks off")
        while True:
            try:
                record, stop = decoder.raw_decode(text.text, text.position)
                if stop < len(text.text) or text.ended:
                    break
            except (json.JSONDecodeError, RecursionError) as error:
                if text.ended or len(text.text) - text.position > LARGEST_RECORD:
                    reason = getattr(error, "msg", "it is nested too deeply")
                    raise text.broken(
                        f"the record that begins there is no JSON: {reason}"
                    ) from error
            text.more()
        yield Row(row, text.line, record)
        row += 1
        text.skip(stop)
        found = text.next()
        if found not in (",", "]"):
            raise text.broken(f"expected a comma or the end, not {found!r}")
        text.skip(text.position + 1)
        if found == "]":
            if text.next() != "":
                raise text.broken("something follows its end")
            return
