"""A Parquet table written in resumable shards.

Each part is a file that is complete or absent, with a digest of its content in its name; one that
was damaged counts as absent. The table is put together from all of them in the order of the rows,
whichever run or process wrote which.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rome_diagnosis import envelope
from rome_diagnosis.disk import files, journal
from rome_diagnosis.editors import PUBLISHED
from rome_diagnosis.errors import UserError

# What the table has of each method, in columns named ``bare_c_rome`` and so on.
NUMBERS = ("relative_bound", "relative_bound_first_tokens", "expected_share", "bare", "prefixed")
FLOATS = (
    "d_rome", "d_c_rome", "d_p_rome", "rho", "length_ratio", "whitened_cosine", "bound_rome",
    "bound_c_rome", "relative_bound_rome", "relative_bound_first_tokens_rome",
    "expected_share_rome",
)  # fmt: skip
COLUMNS = pa.schema(
    [
        ("row", pa.int64()),
        ("case_id", pa.string()),
        ("subject", pa.string()),
        ("prompt", pa.string()),
        ("token", pa.string()),
        ("token_index", pa.int64()),
        ("is_first_token", pa.bool_()),
        *((name, pa.float64()) for name in FLOATS),
        ("verdict", pa.string()),
        ("error", pa.string()),
    ]
)


def column(figure: str, method: str) -> str:
    """The table's column of a method's figure; the published editor's verdict has its own name."""
    return figure if (figure, method) == ("verdict", PUBLISHED) else f"{figure}_{method}"


def with_methods(methods: Iterable[str], *, layer: bool) -> pa.Schema:
    """The columns of a table that has those of methods too.

    Args:
        methods: Their names.
        layer: Whether each row says its block.

    Returns:
        :data:`COLUMNS` and the others.
    """
    known = {*COLUMNS.names}
    others = [
        pa.field(name, pa.string() if figure == "verdict" else pa.float64())
        for method in methods
        for figure in (*NUMBERS, "verdict")
        if (name := column(figure, method)) not in known
    ]
    first, *rest = COLUMNS
    return pa.schema([first, *([pa.field("layer", pa.int64())] if layer else []), *rest, *others])


DIGEST = 16  # hexadecimal digits


class Parts:
    """The parts of one table, in a folder beside it."""

    def __init__(
        self,
        target: str | os.PathLike[str],
        settings: Mapping[str, Any],
        *,
        columns: pa.Schema = COLUMNS,
        first: bool = True,
    ) -> None:
        """Looks at what is there.

        Args:
            target: The table to be.
            settings: Everything the rows depend on, as plain JSON values.
            columns: The table's columns.
            first: Whether this process makes the folder (others wait until it has).

        Raises:
            UserError: If the folder cannot be made, or belongs to a run with other settings.
        """
        if os.fspath(target) == files.STANDARD_OUTPUT or files.is_stream(target):
            raise UserError(f"cannot write {target}: a table needs a regular file")
        self.target = Path(os.path.realpath(target))  # a link stays, what it points to is replaced
        self.folder = self.target.with_name(self.target.name + ".parts")
        self.settings, self.columns = journal.identity(settings), columns
        if not first:
            return
        note = self.folder / "settings.json"
        try:
            self.folder.mkdir(exist_ok=True)
            if note.exists():
                stored = dict(json.loads(note.read_text(encoding="utf-8")))
                journal.check_same_run(stored, self.settings, self.folder)
            else:
                files.write_text(str(note), envelope.dumps(self.settings))
        except UserError:
            raise
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"cannot use {self.folder}: {error}; remove it") from error

    def path(self, index: int) -> Path | None:
        """Where a part is that is what was written; ``None`` where none is."""
        for path in self.folder.glob(f"{index:06d}-*.parquet"):
            if path.is_file() and path == self._named(index, path.read_bytes()):
                return path
        return None

    def _named(self, index: int, content: bytes) -> Path:
        digest = hashlib.sha256(content).hexdigest()[:DIGEST]
        return self.folder / f"{index:06d}-{digest}.parquet"

    def write(self, index: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes a part; when this returns, it is on the disk.

        Args:
            index: Number of the part, from 0.
            rows: Values of the columns; what is missing is null.

        Raises:
            UserError: If it cannot be written.
        """
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=self.columns)
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer)
        content = buffer.getvalue().to_pybytes()
        with files.atomic(self._named(index, content)) as part:
            part.write_bytes(content)
        for other in self.folder.glob(f"{index:06d}-*.parquet"):
            if other != self._named(index, content) and other.is_file():
                other.unlink()

    def merge(self, indices: Iterable[int], n_rows: int, *, each: int = 1) -> None:
        """Puts the table together, checks that no row is lost or doubled, removes the parts.

        Args:
            indices: The parts, in the order of the rows.
            n_rows: How many rows of the data set there have to be.
            each: How many rows of the table each of them has, one after another.

        Raises:
            UserError: If rows are missing, or the table cannot be written.
        """
        metadata = {"diag.screen": json.dumps(self.settings, sort_keys=True)}
        expected = 0
        merged = self.folder / "merged.parquet"
        try:
            with pq.ParquetWriter(merged, self.columns.with_metadata(metadata)) as writer:
                for index in indices:
                    path = self.path(index)
                    if path is None:
                        raise UserError(
                            f"part {index} of {self.target} is missing or damaged: run the command "
                            "again, which makes what is missing"
                        )
                    part = pq.read_table(path)
                    rows = part.column("row").to_pylist()
                    ends = expected + len(rows) // each
                    if rows != [row for row in range(expected, ends) for _ in range(each)]:
                        raise UserError(
                            f"part {index} of {self.target} does not begin with row {expected}: "
                            f"remove {self.folder} and start again"
                        )
                    expected = ends
                    writer.write_table(part)
            if expected != n_rows:
                raise UserError(f"{self.target} would have {expected} rows instead of {n_rows}")
            files.sync(merged)
            os.replace(merged, self.target)
            shutil.rmtree(self.folder)
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"cannot write {self.target}: {error}") from error
