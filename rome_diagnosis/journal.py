"""Results that survive an interruption: one JSON line each, appended as soon as it is known.

A run that is killed leaves whole lines and at most one torn one, which is dropped. The first line
says which run the others belong to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from rome_diagnosis.errors import UserError

SCHEMA = "diag.journal/1"


class Journal:
    """An append-only file of finished results, by key.

    Attributes:
        done: What earlier runs with the same settings finished.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        """Reads what is there and makes the file ready for more.

        Args:
            path: The file; made if there is none.
            settings: Everything the results depend on, as plain JSON values.

        Raises:
            UserError: If the file cannot be used, is no journal, or belongs to other settings.
        """
        self.path = Path(path)
        self._settings = json.loads(json.dumps(settings))
        self.done: dict[str, Any] = {}
        try:
            raw = self.path.read_bytes() if self.path.exists() else b""
            # What follows the last newline was torn when the run was killed.
            whole = raw[: raw.rfind(b"\n") + 1]
            self._read(whole)
            self._file: IO[bytes] = open(self.path, "r+b" if self.path.exists() else "w+b")  # noqa: SIM115
            self._file.truncate(len(whole))
            self._file.seek(len(whole))
            if not whole:
                self._append({"schema": SCHEMA, "settings": self._settings})
        except OSError as error:
            raise UserError(f"cannot use the journal {self.path}: {error.strerror}") from error

    def add(self, key: str, result: Any) -> None:
        """Appends one result; when this returns, it is on the disk.

        Args:
            key: Identifies it.
            result: Plain JSON values.
        """
        self.done[key] = result
        self._append({"key": key, "result": result})

    def remove(self) -> None:
        """Deletes the file: the results have gone to their final place."""
        self._file.close()
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
        self._file.close()

    def _append(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, whole: bytes) -> None:
        lines = whole.splitlines()
        if not lines:
            return
        try:
            head, *rest = (json.loads(line) for line in lines)
            if head["schema"] != SCHEMA:
                raise ValueError
            self.done = {line["key"]: line["result"] for line in rest}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.path} is no journal: remove it or name another") from error
        if head["settings"] != self._settings:
            differing = sorted(
                key
                for key in {*head["settings"], *self._settings}
                if head["settings"].get(key) != self._settings.get(key)
            )
            raise UserError(
                f"the journal {self.path} belongs to a run with other settings "
                f"({', '.join(differing)}): remove it or name another"
            )
