"""Files that users hand in: opened only where reading ends, decompressed, cut into lines.

Pipes, devices and folders are refused before they are opened, because opening a pipe waits for a
writer and a device may never end. What a file is called does not decide whether it is compressed:
its first bytes do.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from typing import IO, Any

from rome_diagnosis.errors import UserError

StrPath = str | os.PathLike[str]

LARGEST_RECORD = 1 << 26  # bytes; a longer record is a file that was taken for the wrong format
BOM = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"
# What other formats begin with, and what they are.
FOREIGN = {
    b"PK\x03\x04": "a zip archive (or a spreadsheet)",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


def check_regular(path: StrPath, what: str) -> None:
    """Refuses what is no regular file, without opening it.

    Args:
        path: The file.
        what: What messages call it, e.g. ``the edits``.

    Raises:
        UserError: If it is a directory, a pipe or a device, or is not there.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {what} {path}: {reason}") from error
    if stat.S_ISDIR(mode):
        raise UserError(f"cannot read {what} {path}: it is a directory")
    if not stat.S_ISREG(mode):
        raise UserError(
            f"cannot read {what} {path}: it is a pipe or a device; save it to a file first"
        )


@contextlib.contextmanager
def opened(path: StrPath, what: str) -> Iterator[IO[bytes]]:
    """Opens a regular file, decompressed where it is gzip.

    Args:
        path: The file.
        what: What messages call it, e.g. ``the edits``.

    Yields:
        Its bytes, at the start; can be wound back.

    Raises:
        UserError: If it is no regular file, cannot be read (also later, inside the block), or is of
            a format that cannot be read.
    """
    try:
        check_regular(path, what)
        with open(path, "rb") as raw:
            zipped = raw.read(len(GZIP)) == GZIP
            raw.seek(0)
            file: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
            start = file.read(8)
            for magic, name in FOREIGN.items():
                if start.startswith(magic):
                    raise UserError(f"cannot read {what} {path}: it is {name}; save it as UTF-8")
            file.seek(0)
            yield file
    except UserError:
        raise
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {what} {path}: it is not UTF-8 text ({error})") from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"cannot read {what} {path}: {reason}") from error


def lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """A file's lines, which only line feeds end, without holding more than one.

    Args:
        file: Its bytes, at the start.

    Yields:
        Line numbers from 1, and lines; a byte-order mark is left out.

    Raises:
        ValueError: If a line is longer than :data:`LARGEST_RECORD`.
    """
    number = 0
    while line := file.readline(LARGEST_RECORD + 1):
        number += 1
        if len(line) > LARGEST_RECORD:
            raise ValueError(f"line {number} is longer than {LARGEST_RECORD >> 20} MiB")
        yield number, line.removeprefix(BOM) if number == 1 else line


def read_text(path: StrPath, what: str, *, largest: int = LARGEST_RECORD) -> str:
    """Reads a small file.

    Args:
        path: The file, in UTF-8 with or without a byte-order mark.
        what: What messages call it.
        largest: Bytes beyond which it is refused.

    Returns:
        Its text.

    Raises:
        UserError: If it cannot be read, or is too large.
    """
    with opened(path, what) as file:
        content = file.read(largest + 1)
        if len(content) > largest:
            raise UserError(f"cannot read {what} {path}: it is larger than {largest >> 10} KiB")
        return content.decode("utf-8-sig")
