"""``python -m reports RESULT…``: saved results as text, or with ``-o`` as a page or Markdown."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports.document import ReportError, check, read
from reports.pages.page import SCHEMAS


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command line, without the program's name.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="reports",
        description="Renders saved results: one, or a diagnosis and a verification of one edit.",
    )
    parser.add_argument(
        "results", metavar="RESULT", nargs="+", help="JSON, or the table diag.screen writes"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE",
        help="write a self-contained page (.html) or Markdown (.md)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        documents = [read(path) for path in options.results]
        for document in documents:
            check(document, SCHEMAS)
        if options.output:
            _write(Path(options.output), _render(documents, options.output))
        else:
            for document in documents:
                _show(document)
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _render(documents: Sequence[dict[str, Any]], output: str) -> str:
    if output.endswith((".md", ".markdown")):
        from reports import markdown

        return markdown.render(*documents)
    from reports.pages import page

    return page.render(*documents)


def _show(document: dict[str, Any]) -> None:
    if document["schema"] == "diag.verify/1":
        from reports.text import verify

        verify.show(document)
    elif document["schema"] == "diag.screen/1":
        from reports.text import screen

        if "summary" not in document:
            raise ReportError("a table alone makes a page (-o page.html); text needs its JSON")
        screen.show(document)
    elif document["schema"] == "diag.covariance/1":
        from reports.text import covariance

        covariance.show(document)
    elif document["schema"] == "probes.first_token/1":
        raise ReportError("first-token probes make a page or Markdown (-o FILE), no text")
    else:
        from reports.text import keys

        keys.show(document)


def _write(path: Path, text: str) -> None:
    part = None
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}", suffix=".part")
        os.close(handle)
        Path(part).write_text(text, encoding="utf-8")
        umask = os.umask(0)  # mkstemp makes files that only their owner reads
        os.umask(umask)
        os.chmod(part, 0o666 & ~umask)
        os.replace(part, path)
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror}") from error
    finally:
        if part and os.path.exists(part):
            os.unlink(part)


if __name__ == "__main__":
    sys.exit(main())
