"""``python -m reports RESULT.json``: a saved result as text, or with ``-o`` as a page."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reports.document import ReportError, check, read


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command line, without the program's name.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="reports", description="Renders a saved result.")
    parser.add_argument("result", metavar="RESULT.json")
    parser.add_argument("-o", "--output", metavar="PAGE.html", help="write a self-contained page")
    options = parser.parse_args(arguments)
    try:
        document = read(options.result)
        check(document, ("diag.keys/1", "diag.verify/1"))
        page, text = _renderers(document["schema"])
        if options.output:
            _write(Path(options.output), page(document))
        else:
            text(document)
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _renderers(schema: str) -> tuple[Callable[[Any], str], Callable[[Any], None]]:
    """What makes a page and what prints text of a document of this kind."""
    if schema == "diag.verify/1":
        from reports import verify_text

        return verify_text.to_html, verify_text.show
    from reports import page, terminal

    return page.render, terminal.show


def _write(path: Path, text: str) -> None:
    part = None
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}", suffix=".part")
        os.close(handle)
        Path(part).write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror}") from error
    finally:
        if part and os.path.exists(part):
            os.unlink(part)


if __name__ == "__main__":
    sys.exit(main())
