"""Text from outside, made harmless where it is shown: in a terminal, on a page, in Markdown.

Subjects, prompts, file names and whatever a saved document holds may carry terminal escapes,
invisible characters that reorder a line, halves of surrogate pairs that no file can hold, and
markup. :func:`clean` deals with characters, :func:`markdown` with markup; HTML escapes by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Control characters, halves of surrogate pairs, and invisible characters that reorder or hide
# text: bidirectional marks, embeddings, overrides and isolates; the byte-order mark; tags.
# The joiners U+200C and U+200D stay: scripts and emoji need them.
HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff"
    "\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
BREAKS = re.compile("\r\n|[\n\t\r\x0b\x0c\x85\u2028\u2029]")

# A backslash makes each of them an ordinary character, in CommonMark and on code hosting sites;
# some mean something only at the start of a line, or in what would become a link.
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&@])|(?<=^)([-+=])|(:)(?=//)|(?<=www)(\.)", re.IGNORECASE)


def clean(text: str) -> str:
    r"""Text of one or more lines whose harmful characters are written out, e.g. ``\x1b``.

    Args:
        text: Any text.

    Returns:
        The text with line breaks and tabs as they are; it can be encoded and printed.
    """
    if text.isprintable():
        return text
    text = text.replace("\r\n", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    return HARMFUL.sub(_written, text)


def line(text: str) -> str:
    """The same on one line: line breaks and tabs become blanks.

    Args:
        text: Any text.

    Returns:
        One line.
    """
    return text if text.isprintable() else clean(BREAKS.sub(" ", text))


def cleaned(document: Any) -> Any:
    """A document with every text in it :func:`clean`, names of fields included.

    Args:
        document: JSON values.

    Returns:
        A copy; the document itself stays as it is.
    """
    if isinstance(document, str):
        return clean(document)
    if isinstance(document, Mapping):
        return {cleaned(name): cleaned(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [cleaned(value) for value in document]
    return document


def markdown(text: object) -> str:
    """Any value as one line of Markdown that shows it and means nothing.

    Args:
        text: A text, or a value to write as one.

    Returns:
        One line, every mark of Markdown and HTML in it escaped.
    """
    shown = SPECIAL.sub(lambda mark: "\\" + mark[0], " ".join(line(str(text)).split()))
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", shown)


def _written(character: re.Match[str]) -> str:
    return character[0].encode("unicode_escape").decode("ascii")
