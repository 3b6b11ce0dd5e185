"""What is no ordinary file is refused before it is opened, and no file is held whole."""

from __future__ import annotations

import gzip
import os
import resource
from pathlib import Path

import pytest

from probes.reading.rows import rows
from rome_diagnosis import source
from rome_diagnosis.errors import UserError


def refusal(path: source.StrPath) -> str:
    with pytest.raises(UserError) as refused:
        list(rows(path, what="the rows"))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_is_no_regular_file_is_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # nobody writes to it: opening it would wait for ever
    assert "pipe or a device" in refusal(tmp_path / "pipe")
    assert "pipe or a device" in refusal("/dev/zero")
    assert "is a directory" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "absent")
    assert "null byte" in refusal("a\0b")
    assert "too long" in refusal("x" * 300)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "secret").chmod(0)
    assert "Permission denied" in refusal(tmp_path / "secret")


def test_a_damaged_archive_is_one_line(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"a": 1}\n' * 1000)
    for content in (whole[:-9], whole[:40], whole[:20] + b"\0" * 20, b"\x1f\x8bno"):
        (tmp_path / "a.gz").write_bytes(content)
        assert "cannot read the rows" in refusal(tmp_path / "a.gz")


@pytest.mark.parametrize("start", [b"", b"[", b'[{"a": "', b'{"a": ', b"{\n"])
def test_a_line_of_two_gibibytes_is_not_held(start: bytes, tmp_path: Path) -> None:
    with open(tmp_path / "big", "wb") as file:
        file.write(start)
        file.truncate(2 << 30)  # zeros that take no place on the disk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        found = list(rows(tmp_path / "big", what="the rows"))
        assert [row.error is None for row in found] == [False]
    except UserError as refused:
        assert "\n" not in str(refused)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 8 * source.LARGEST_RECORD / 1024
