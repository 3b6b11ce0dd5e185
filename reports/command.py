"""The command ``python -m reports``: saved results as text, as a page, Markdown or figures."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rome_diagnosis import command, options
from rome_diagnosis.disk import files
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

Documents = Sequence[dict[str, Any]]
WIDTH = 100  # columns of text that is written to a file
# The module that shows a kind of document in a terminal.
TEXTS = {
    "diag.keys/1": "reports.text.keys",
    "diag.verify/1": "reports.text.verify",
    "diag.screen/1": "reports.text.screen",
    "diag.screen_layers/1": "reports.text.sections",
    "diag.sequence/1": "reports.text.sequence",
    "diag.covariance/1": "reports.text.covariance",
    "diag.sweep/1": "reports.text.sweep",
    "diag.compare/1": "reports.text.sections",
    "diag.batch/1": "reports.text.batch",
    "diag.apply/1": "reports.text.apply",
    "diag.hardcases/1": "reports.text.hardcases",
    "diag.tasks/1": "reports.text.sections",
    "diag.surrogate/1": "reports.text.sections",
    "probes.first_token/1": "reports.text.first_token",
}


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser(
        "reports", "Renders saved results: one, or a diagnosis and a verification of one edit."
    )
    parser.add_argument(
        "results", metavar="FILE", nargs="+", help="JSON, or the table diag.screen writes"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default=None,
        help="write a page by itself (.html), Markdown (.md), text (.txt) or the figures (.pdf)",
    )
    options.add_verbose(parser, "everything a diagnosis measured")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command line, without the program's name.

    Returns:
        The exit code.

    Raises:
        UserError: If a result cannot be read or shown, or the output not be written.
    """
    parsed = build_parser().parse_args(arguments)
    from reports.document import read_document  # after --help, which need not wait for the schemas

    render = None if parsed.output is None else renderer(parsed.output)
    files.check_outputs([parsed.output], inputs=parsed.results)
    documents = [read_document(path) for path in parsed.results]
    files.check_outputs([parsed.output], inputs=[d["table"] for d in documents if "table" in d])
    with _guarded(parsed.results):
        if render is None:
            for document in documents:
                show(document, verbose=parsed.verbose)
            return 0
        content = render(documents)
    write_output(parsed.output, content)
    return 0


def write_output(output: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes what a renderer made.

    Args:
        output: The file.
        content: Its content.

    Raises:
        UserError: If it cannot be written.
    """
    if isinstance(content, str):
        files.write_text(output, content)
    else:
        with files.atomic(output) as part:
            part.write_bytes(content)


def renderer(output: str | os.PathLike[str]) -> Callable[[Documents], str | bytes]:
    """What a file is rendered by, as its name says.

    Args:
        output: The file.

    Returns:
        A function from documents to the file's content.

    Raises:
        UserError: If the name ends in nothing that is known.
    """
    suffix = Path(output).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"cannot write {output}: its name must end in {', '.join(SUFFIXES)}")
    return SUFFIXES[suffix]


def page(documents: Documents) -> str:
    """Documents as a self-contained page; see :func:`reports.pages.page.render`."""
    from reports.pages.page import render

    return render(*documents)


def markdown(documents: Documents) -> str:
    """Documents as Markdown; see :func:`reports.markdown.render`."""
    from reports.markdown import render

    return render(*documents)


def text(documents: Documents) -> str:
    """Documents as text, one after another.

    Args:
        documents: Saved results.

    Returns:
        The text.

    Raises:
        UserError: If there is no text for one of them.
    """
    from rich.console import Console

    written = io.StringIO()
    for document in documents:
        show(document, Console(file=written, width=WIDTH, highlight=False), verbose=True)
    return written.getvalue()


def show(
    document: dict[str, Any], console: Console | None = None, *, verbose: bool = False
) -> None:
    """Prints a document.

    Args:
        document: A saved result.
        console: Where to; standard output by default.
        verbose: Whether to print everything, where its text has a short form.

    Raises:
        UserError: If there is no text for it.
    """
    if document["schema"] == "diag.screen/1" and document.get("summary") is None:
        raise UserError("a table alone makes a page (-o page.html); text needs its JSON")
    form = {"verbose": verbose} if document["schema"] == "diag.keys/1" else {}
    importlib.import_module(TEXTS[document["schema"]]).show(document, console, **form)


def figures(documents: Documents) -> bytes:
    """The figures of documents as PDF; see :func:`reports.pdf.render`."""
    from reports.pdf import render

    return render(*documents)


SUFFIXES: Mapping[str, Callable[[Documents], str | bytes]] = {
    ".html": page,
    ".md": markdown,
    ".txt": text,
    ".pdf": figures,
}


@contextlib.contextmanager
def _guarded(results: Sequence[str]) -> Iterator[None]:
    """Whatever a validated document still does to a renderer is one line."""
    try:
        yield
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:
        raise UserError(
            f"cannot show {', '.join(results)}: {type(error).__name__}: {error}"
        ) from error
