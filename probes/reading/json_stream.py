"""JSON values taken one after another from text that may be larger than memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from rome_diagnosis.source import LARGEST_RECORD

CHUNK = 1 << 20  # characters
_SPACE = re.compile(r"[ \t\n\r]*")
# Undecodable bytes are read as these, so that one of them costs one record and not the file.
_UNDECODED = re.compile("[\udc80-\udcff]")
# The longest token that the end of what has been read can cut in two: \uXXXX\uXXXX, -Infinity.
_LONGEST_TOKEN = 12
# sys.set_int_max_str_digits refuses to read longer integers; as text they stay what they are.
_LONGEST_INTEGER = 4300


def integer(digits: str) -> int | str:
    """An integer of JSON; one that is too long for Python stays text."""
    return int(digits) if len(digits) <= _LONGEST_INTEGER else digits


DECODER = json.JSONDecoder(parse_int=integer)


class BrokenJson(ValueError):
    """What is no JSON.

    Attributes:
        line: The line at which the broken value begins, from 1.
        cut_off: Whether the text ended too early.
    """

    def __init__(self, line: int, problem: str, *, cut_off: bool = False) -> None:
        """Says where and why."""
        super().__init__(problem)
        self.line, self.cut_off = line, cut_off


class Undecoded:
    """A JSON value whose text is not UTF-8."""


class JsonStream:
    """Text from which JSON values are taken; what has been taken is forgotten.

    Attributes:
        line: The line of the next value, from 1.
    """

    def __init__(self, file: IO[str]) -> None:
        """Begins at the start of a text that was opened with ``errors="surrogateescape"``."""
        self.line = 1
        self._file, self._text, self._position, self._ended = file, "", 0, False

    def peek(self) -> str:
        """The next character that is no white space, or the empty text at the end."""
        while True:
            space = _SPACE.match(self._text, self._position)
            assert space
            self._move(space.end())
            if self._position < len(self._text):
                return self._text[self._position]
            if self._ended:
                return ""
            self._more()

    def take(self) -> str:
        """As :meth:`peek`, and steps over it."""
        character = self.peek()
        self._move(self._position + len(character))
        return character

    def value(self) -> Any:
        """Takes the value that begins here.

        Returns:
            The value; :class:`Undecoded` in the place of one that is not UTF-8.

        Raises:
            BrokenJson: If it is no JSON, breaks off, is nested too deeply or too long.
        """
        if not self.peek():
            raise BrokenJson(self.line, "it breaks off")
        while True:
            try:
                value, stop = DECODER.raw_decode(self._text, self._position)
                if stop < len(self._text) or self._ended:  # else a number could go on
                    break
            except RecursionError as error:
                raise BrokenJson(self.line, "it is nested too deeply") from error
            except json.JSONDecodeError as error:
                cut_off = self._cut_off(error)
                if self._ended or not cut_off:
                    problem = f"it is not JSON: {error.msg}"
                    raise BrokenJson(self.line, problem, cut_off=cut_off) from error
            if len(self._text) - self._position > LARGEST_RECORD:
                raise BrokenJson(self.line, f"it is longer than {LARGEST_RECORD >> 20} MiB")
            self._more()
        if _UNDECODED.search(self._text, self._position, stop):
            value = Undecoded()
        self._move(stop)
        return value

    def _cut_off(self, error: json.JSONDecodeError) -> bool:
        """Whether more text may mend an error."""
        return (
            error.msg.startswith("Unterminated string")
            or error.pos >= len(self._text) - _LONGEST_TOKEN
        )

    def _more(self) -> None:
        """Reads on, and forgets what has been taken."""
        self._text = self._text[self._position :]
        self._position = 0
        # Reading as much again as is there keeps a long value from being parsed too often.
        chunk = self._file.read(max(CHUNK, len(self._text)))
        self._text += chunk
        self._ended = not chunk

    def _move(self, to: int) -> None:
        self.line += self._text.count("\n", self._position, to)
        self._position = to


def elements(stream: JsonStream) -> Iterator[tuple[int, Any]]:
    """The elements of a JSON array.

    Args:
        stream: At the opening bracket.

    Yields:
        The line at which each begins, and its value.

    Raises:
        BrokenJson: If the array is broken or incomplete; nothing after that can be read.
    """
    stream.take()
    if stream.peek() == "]":
        stream.take()
    else:
        separator = ","
        while separator == ",":
            stream.peek()
            line = stream.line
            yield line, stream.value()
            separator = stream.peek()
            if separator not in (",", "]"):
                problem = f"expected a comma or the end, not {separator!r}" if separator else ""
                raise BrokenJson(stream.line, problem or "it breaks off")
            stream.take()
    if stream.peek():
        raise BrokenJson(stream.line, "something follows its end")


def values(stream: JsonStream) -> Iterator[tuple[int, Any]]:
    """JSON values that follow one another, however many lines each takes.

    Args:
        stream: Before the first.

    Yields:
        The line at which each begins, and its value.

    Raises:
        BrokenJson: If one is broken: where the next begins is then unknown.
    """
    while stream.peek():
        line = stream.line
        yield line, stream.value()
