"""``python -m reports RESULT.json``: a saved result as text, or with ``-o`` as a page."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

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
        check(document, ("diag.keys/1",))
        if options.output:
            from reports.page import render

            _write(Path(options.output), render(document))
        else:
            from reports.terminal import show

            show(document)
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


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
