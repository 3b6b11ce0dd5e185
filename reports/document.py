"""Reading saved results: JSON documents that name their schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class ReportError(ValueError):
    """A document that cannot be rendered; its message is one line that says why."""


def read(path: str) -> dict[str, Any]:
    """Reads a saved result.

    Args:
        path: A JSON file.

    Returns:
        The document.

    Raises:
        ReportError: If it cannot be read, is not JSON, or names no schema.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ReportError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("schema"), str):
        raise ReportError(f"{path} is not a saved result: it names no schema")
    return document


def check(document: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuses a document of another schema than those that are known.

    Raises:
        ReportError: Naming both.
    """
    if document.get("schema") not in known:
        raise ReportError(
            f"cannot render schema {document.get('schema')!r}: known are {', '.join(known)}"
        )
