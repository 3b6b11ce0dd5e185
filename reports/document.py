"""Reading saved results: JSON documents, and the table of a screened data set, both checked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from rome_diagnosis.errors import UserError
from rome_diagnosis.schema import validate
from rome_diagnosis.source import check_regular, opened
from rome_diagnosis.text import line

LARGEST = 1 << 28  # bytes of JSON: 20,000 performed edits
LARGEST_TABLE = 2_000_000  # rows


def read_document(path: str) -> dict[str, Any]:
    """Reads a saved result.

    Args:
        path: A JSON file, plain or compressed (``.gz``), or the Parquet table that
            ``diag.screen`` writes.

    Returns:
        The document; of a screened data set with its table as ``rows``.

    Raises:
        UserError: If it cannot be read, is no JSON, or is not what its schema says.
    """
    if not path.strip():
        raise UserError("the result's file name is empty")
    if path.endswith(".parquet"):
        return with_rows({"schema": "diag.screen/1", "table": path})
    document: dict[str, Any] = validate(_parse(_bytes(path), path), source=path)
    if document["schema"] == "diag.screen/1":
        return with_rows(document, Path(path).parent)
    return document


def with_rows(document: Mapping[str, Any], beside: Path | None = None) -> dict[str, Any]:
    """A screened data set's summary with the table it sums up.

    Args:
        document: A ``diag.screen/1`` document.
        beside: A folder to look in if the table is not where it was written.

    Returns:
        The document with the table's rows under ``rows``.

    Raises:
        UserError: If the table cannot be read, or is another one.
    """
    path = _table(document, beside)
    try:
        rows, settings = _rows(path)
    except UserError as error:
        raise UserError(line(str(error))) from error  # the document may name any file
    if settings.get("schema") not in (None, "diag.screen/1"):
        raise UserError(f"{path} is a table of several blocks: show the summary that --json wrote")
    screened = {"schema": "diag.screen/1", "table": path, "rows": rows}
    if "limits" in settings:
        screened["limits"] = settings["limits"]
    validate(screened, source=path)
    return {"limits": {}, **screened, **document, "table": path, "rows": rows}


def _table(document: Mapping[str, Any], beside: Path | None) -> str:
    """The table's file: where it was written, else beside the summary."""
    path = str(document["table"])
    if beside and not os.path.exists(path):
        return str(beside / Path(path).name)
    return path


def _bytes(path: str) -> bytes:
    """What a regular file holds, decompressed where it is gzip."""
    with opened(path, "the result") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise UserError(f"cannot read the result {path}: it is larger than {LARGEST >> 20} MiB")
    return content


def _parse(content: bytes, path: str) -> Any:
    """JSON as the standard has it: no NaN, no infinity."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"it holds {constant}")

    try:
        return json.loads(content, parse_constant=refuse)
    except RecursionError:
        reason = "it is nested too deeply"
    except json.JSONDecodeError as error:
        reason = f"{error}"
    except UnicodeDecodeError:
        reason = "its bytes are no text"
    except ValueError as error:
        reason = "a number in it has too many digits" if "digits" in str(error) else str(error)
    raise UserError(f"{path} is not JSON: {reason}")


def _rows(path: str) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
    """A table's rows, and the settings it was made with."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from rome_diagnosis.schema.screen import COLUMNS, NEEDED

    check_regular(path, "the table")
    try:
        with pq.ParquetFile(path) as file:
            names, n_rows = file.schema_arrow.names, file.metadata.num_rows
            columns = [name for name in COLUMNS if name in names]
            missing = [name for name in COLUMNS if name in NEEDED.difference(columns)]
            if missing:
                raise UserError(f"{path} is no table of diag.screen: it has no {missing[0]}")
            if n_rows > LARGEST_TABLE:
                raise UserError(f"cannot show {path}: it has {n_rows:,} of {LARGEST_TABLE:,} rows")
            rows = file.read(columns=columns).to_pylist()
            metadata = file.schema_arrow.metadata or {}
    except UserError:
        raise
    except (OSError, ValueError, OverflowError, KeyError, pa.ArrowException) as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UserError(f"cannot read the table {path}: {reason}") from None
    settings = _parse(metadata.get(b"diag.screen", b"{}"), path)
    return rows, settings if isinstance(settings, dict) else {}
