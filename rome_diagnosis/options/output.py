"""Options that say where results go, and when a command fails."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rome_diagnosis.defaults import WORSE
from rome_diagnosis.disk import files
from rome_diagnosis.options.values import UNSET, Options


def add_output(to: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Adds where results go.

    Args:
        to: The parser.

    Returns:
        The group, for options of the command's own.
    """
    group = to.add_argument_group("output")
    add_json(group)
    group.add_argument("--html", metavar="FILE", default=UNSET, help="write the result as a page")
    group.add_argument("--quiet", action="store_true", default=UNSET, help="print no text")
    return group


def add_json(to: Options, help: str = "write the result as JSON") -> None:
    """Adds ``--json``."""
    to.add_argument("--json", metavar="FILE|-", default=UNSET, help=help)


def add_verbose(to: Options, what: str) -> None:
    """Adds ``--verbose``.

    Args:
        to: A parser, or a group of its options.
        what: What it prints.
    """
    to.add_argument("--verbose", action="store_true", help=f"print {what}, not 15 lines")


def add_save_model(to: Options, what: str) -> None:
    """Adds ``--save-model``.

    Args:
        to: A parser, or a group of its options.
        what: What it writes.
    """
    to.add_argument(
        "--save-model",
        metavar="DIR",
        default=UNSET,
        help=f"{what}, for Hugging Face from_pretrained",
    )


def add_journal(to: Options, what: str) -> None:
    """Adds ``--journal``, which a long run resumes from.

    Args:
        to: A parser, or a group of its options.
        what: What goes there.
    """
    to.add_argument(
        "--journal",
        metavar="FILE",
        default=UNSET,
        help=f"{what} as they come, and an interrupted run resumes from it (default: beside "
        "--json FILE)",
    )


def journal_of(given: Mapping[str, Any]) -> str | None:
    """Where a list's results go as they come.

    Args:
        given: Parsed options, ``edits``, ``journal`` and ``json`` among them.

    Returns:
        A file; ``None`` where there is no list or no place for one.
    """
    if "edits" not in given:
        return None
    if "journal" in given:
        return str(given["journal"])
    to_json = given.get("json")
    if to_json is None or to_json == files.STANDARD_OUTPUT or files.is_stream(to_json):
        return None
    return f"{to_json}.journal"


def add_fail_on(
    to: Options,
    choices: Sequence[str] = tuple(WORSE),
    help: str = "exit with code 1 at this verdict or a worse one",
) -> None:
    """Adds ``--fail-on``, by default with verdicts to choose from."""
    to.add_argument(
        "--fail-on",
        choices=choices,
        default=UNSET,
        help=help,
    )


@contextlib.contextmanager
def outputs(
    given: Mapping[str, Any],
    inputs: Iterable[files.StrPath | None],
    **others: tuple[files.StrPath | None, str],
) -> Iterator[None]:
    """Checks where results go before any work is done, and holds the files while it is.

    Args:
        given: Parsed options of :func:`add_output`.
        inputs: What the command reads.
        others: Further outputs, each with the suffix of its format (``""`` for any).

    Yields:
        Nothing.

    Raises:
        UserError: As :func:`rome_diagnosis.disk.files.check_outputs`, ``check_format`` and
            ``locked``.
    """
    formats = {"json": ".json", "html": ".html"}
    named = {name: (given.get(name), suffix) for name, suffix in formats.items()} | others
    for path, suffix in named.values():
        files.check_format(path, suffix)
    paths = [path for path, _ in named.values()]
    files.check_outputs(paths, inputs)
    with files.locked(*paths):
        yield


def fails(given: Mapping[str, Any], verdicts: Iterable[str]) -> bool:
    """Whether ``--fail-on`` is met by one of the verdicts."""
    return bool(set(WORSE.get(given.get("fail_on", ""), ())).intersection(verdicts))
