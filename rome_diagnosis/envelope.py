"""The head of every saved document, JSON as this project writes it, and results around both."""

from __future__ import annotations

import datetime
import importlib
import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rome_diagnosis.disk import files
from rome_diagnosis.version import __version__

if TYPE_CHECKING:
    import pandas

# JSON has no infinity. What is larger than this is as good as infinite and written as null, so that
# the product of any two numbers of a document is finite.
LARGEST = 1e150
# What numbers can depend on beside the weights and the text.
LIBRARIES = ("torch", "transformers", "transformer-lens")


def head(schema: str, command: str | None, *libraries: str) -> dict[str, Any]:
    """The first fields of a document.

    Args:
        schema: The document's schema, e.g. ``diag.keys/1``.
        command: The command line that measures the same again; ``None`` where there is none.
        libraries: Distributions to name beside :data:`LIBRARIES`.

    Returns:
        ``schema``, ``version``, ``created``, ``versions`` and ``command``.
    """
    return {
        "schema": schema,
        "version": __version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in (*LIBRARIES, *libraries)},
        },
        "command": command,
    }


def dumps(document: Any) -> str:
    """A document as text: readable, stable, without NaN."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def plain(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document as it is read back from disk, so that what is in memory has the same types."""
    return json.loads(json.dumps(document, allow_nan=False))  # without indentation it is C code


def finite(value: Any) -> Any:
    """A value with ``None`` for numbers beyond :data:`LARGEST` and NaN.

    Args:
        value: A number, or containers of numbers.

    Returns:
        The same, mappings as dictionaries and sequences as lists.
    """
    if isinstance(value, float):
        return value if abs(value) <= LARGEST else None
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return value


class Saved:
    """A result around its document: saved as JSON, shown as a page and in a notebook.

    Attributes:
        document: The result as it is saved: plain JSON values.
    """

    document: Mapping[str, Any]

    def shown(self) -> Mapping[str, Any]:
        """What a page of it is made from: the document, and whatever lies beside it."""
        return self.document

    def _valid(self) -> Mapping[str, Any]:
        """What is rendered, once the document is known to be what its schema says."""
        # By its name, as commands reach the text in a terminal: nothing here imports a renderer,
        # nor the schemas, which take a moment to load.
        importlib.import_module("rome_diagnosis.schema").validate(self.document)
        return self.shown()

    def to_json(self) -> str:
        """The document as text."""
        return dumps(self.document)

    def to_html(self) -> str:
        """The result as a self-contained page."""
        return str(importlib.import_module("reports.pages.page").render(self._valid()))

    def to_pandas(self) -> pandas.DataFrame:
        """The result as a table."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves the result in the form that the file's name ends in.

        Args:
            path: The file: ``.json`` for the document, ``.csv`` for the table, else a page
                (``.html``), Markdown (``.md``), text (``.txt``) or every figure (``.pdf``).

        Raises:
            UserError: If it ends in something else, or cannot be written.
        """
        suffix = Path(path).suffix.lower()
        if suffix == ".json":
            content = self.to_json()
        elif suffix == ".csv":
            content = self.to_pandas().to_csv(index=False)
        else:
            reports = importlib.import_module("reports.command")
            reports.write_output(path, reports.renderer(path)([self._valid()]))
            return
        files.write_text(os.fspath(path), content)

    def _repr_html_(self) -> str:
        return str(importlib.import_module("reports.pages.page").fragment(self._valid()))
