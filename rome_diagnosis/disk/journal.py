"""Results that survive an interruption: one JSON line each, appended as soon as it is known.

A run that is killed leaves complete lines and at most one torn one, which is dropped. The first
line says which run the others belong to, and each ends with a digest of itself: what a disk or an
editor changed is not taken for a result. The parts of a table and the checkpoint of a sum are
stored otherwise, and say so with the same few lines (:func:`identity`, :func:`check_same_run`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from rome_diagnosis.disk import files
from rome_diagnosis.errors import UserError

Settings = Mapping[str, Any]
SCHEMA = "diag.journal/2"
START = f'{{"schema": "{SCHEMA}", "settings": '.encode()
SEAL = b', "sha256": "'


class Journal:
    """An append-only file of finished results, by key; one process at a time has it.

    Attributes:
        done: What earlier runs with the same settings finished.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        """Reads what is there and makes the file ready for more.

        Args:
            path: The file; created if there is none.
            settings: Everything the results depend on, as plain JSON values.

        Raises:
            UserError: If the file cannot be used, is no journal, belongs to other settings, or is
                in use.
        """
        self.path = Path(path)
        self.done: dict[str, Any] = {}
        self._held = contextlib.ExitStack()
        with self._held:
            if files.is_stream(path):
                raise UserError(f"cannot use the journal {path}: it is not a regular file")
            self._held.enter_context(files.locked(path))
            try:
                self._file = self._open(identity(settings))
            except OSError as error:
                reason = error.strerror or error
                raise UserError(f"cannot use the journal {self.path}: {reason}") from error
            self._held.callback(self._file.close)
            self._held = self._held.pop_all()

    def add(self, key: str, result: Any) -> None:
        """Appends one result; when this returns, it is on the disk.

        Args:
            key: Identifies it.
            result: Plain JSON values.

        Raises:
            UserError: If it cannot be written.
        """
        self.done[key] = result
        try:
            _append(self._file, {"key": key, "result": result})
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot write the journal {self.path}: {reason}") from error

    def remove(self) -> None:
        """Deletes the file: the results have gone to their final place."""
        self._held.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the file and leaves it where it is."""
        self._held.close()

    def _open(self, settings: dict[str, Any]) -> IO[bytes]:
        raw = self.path.read_bytes() if self.path.exists() else b""
        # What follows the last newline was torn when the run was killed.
        complete = raw[: raw.rfind(b"\n") + 1]
        if not (complete or START.startswith(raw) or raw.startswith(START)):
            raise UserError(f"{self.path} is no journal: remove it or name another")
        self._read(complete, settings)
        file = open(self.path, "r+b" if self.path.exists() else "w+b")  # noqa: SIM115
        file.truncate(len(complete))
        file.seek(len(complete))
        if not complete:
            _append(file, {"schema": SCHEMA, "settings": settings})
        return file

    def _read(self, complete: bytes, settings: dict[str, Any]) -> None:
        lines = complete.splitlines()
        if not lines:
            return
        sealed = all(line == _sealed(line.rpartition(SEAL)[0]) for line in lines)
        if lines[0].startswith(START) and not sealed:
            raise UserError(f"{self.path} was changed after it was written: remove it")
        try:
            head, *rest = (json.loads(line) for line in lines)
            if head["schema"] != SCHEMA or not isinstance(head["settings"], dict):
                raise ValueError
            self.done = {line["key"]: line["result"] for line in rest}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{self.path} is no journal: remove it or name another") from error
        check_same_run(head["settings"], settings, self.path)


def _append(file: IO[bytes], line: Mapping[str, Any]) -> None:
    text = json.dumps(line, ensure_ascii=False, allow_nan=False)
    file.write(_sealed(text.encode().removesuffix(b"}")) + b"\n")
    file.flush()
    os.fsync(file.fileno())


def _sealed(content: bytes) -> bytes:
    """A line of these fields, with the digest that belongs to them."""
    return content + SEAL + hashlib.sha256(content).hexdigest().encode() + b'"}'


def identity(settings: Settings) -> dict[str, Any]:
    """Settings as they are read back from disk: plain JSON values.

    Args:
        settings: Everything the results depend on.

    Returns:
        What to store beside the results.
    """
    return json.loads(json.dumps(settings, allow_nan=False))


def check_same_run(stored: Settings, settings: Settings, place: str | os.PathLike[str]) -> None:
    """Refuses to continue another run.

    Args:
        stored: The identity that lies beside the results.
        settings: This run's.
        place: Where they lie.

    Raises:
        UserError: Naming the settings that differ.
    """
    own = identity(settings)
    differing = sorted(name for name in {*stored, *own} if stored.get(name) != own.get(name))
    if differing:
        raise UserError(
            f"{place} belongs to a run with other settings ({', '.join(differing)}): remove it, "
            "or write to another file"
        )
