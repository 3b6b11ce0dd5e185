"""Reading saved results: JSON documents that name their schema."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class ReportError(ValueError):
    """A document that cannot be rendered; its message is one line that says why."""


def read(path: str) -> dict[str, Any]:
    """Reads a saved result.

    Args:
        path: A JSON file, plain or compressed (``.gz``), or the Parquet table that
            ``diag.screen`` writes.

    Returns:
        The document; of a screened data set with its table as ``rows``.

    Raises:
        ReportError: If it cannot be read, is not JSON, or names no schema.
    """
    if not path:
        raise ReportError("the result's file name is empty")
    if path.endswith(".parquet"):
        return with_rows({"schema": "diag.screen/1", "table": path})
    try:
        found = Path(path).read_bytes()
        document = json.loads(gzip.decompress(found) if path.endswith(".gz") else found)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ReportError(f"cannot read {path}: {reason}") from error
    except ValueError as error:
        raise ReportError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("schema"), str):
        raise ReportError(f"{path} is not a saved result: it names no schema")
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
        ReportError: If the table cannot be read, or is another one.
    """
    import pyarrow
    import pyarrow.parquet as pq

    path = Path(document["table"])
    if beside and not path.exists():
        path = beside / path.name
    try:
        table = pq.read_table(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise ReportError(f"cannot read the table {path}: {error}".splitlines()[0]) from error
    rows = table.to_pylist()
    missing = {"row", "subject", "prompt", "rho", "verdict", "error"} - set(rows[0] if rows else ())
    if missing:
        raise ReportError(f"{path} is no table of diag.screen: it has no {min(missing)}")
    made = json.loads((table.schema.metadata or {}).get(b"diag.screen", b"{}"))
    return {"limits": made.get("limits", {}), **document, "rows": rows}


def check(document: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuses a document of another schema than those that are known.

    Raises:
        ReportError: Naming both.
    """
    if document.get("schema") not in known:
        raise ReportError(
            f"cannot render schema {document.get('schema')!r}: known are {', '.join(known)}"
        )
