"""The library call ``rome_diagnosis.render``: results as a page, checked as the command does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from reports.document import read_document, with_rows
from reports.pages import page
from rome_diagnosis.schema import validate


def render(*results: Mapping[str, Any] | str | os.PathLike[str]) -> str:
    """Renders results as a self-contained page.

    Args:
        results: Files or documents: a saved result, or a diagnosis and a verification of the same
            edit, and the first-token probes of its model.

    Returns:
        HTML that needs no other file and no network.

    Raises:
        UserError: If one cannot be read or is not what its schema says, or there is no page for
            them together.
    """
    return page.render(*map(_document, results))


def _document(result: Mapping[str, Any] | str | os.PathLike[str]) -> Mapping[str, Any]:
    if isinstance(result, str | os.PathLike):
        return read_document(os.fspath(result))
    document = validate(result)
    is_table = document["schema"] == "diag.screen/1" and "rows" not in document
    return with_rows(document) if is_table else document
