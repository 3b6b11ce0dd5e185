"""A journal torn at any byte keeps exactly its complete lines."""

from __future__ import annotations

import pytest

from rome_diagnosis.disk.journal import Journal
from rome_diagnosis.errors import UserError

SETTINGS = {"layer": 2, "texts": ["a", "b"]}
RESULTS = {f"{i}:case": {"ratio": 1 / (i + 3), "text": "é\n“"} for i in range(4)}


def write(path):
    with Journal(path, SETTINGS) as journal:
        for key, result in RESULTS.items():
            journal.add(key, result)


def test_results_come_back_to_the_last_bit(tmp_path):
    write(tmp_path / "j")
    with Journal(tmp_path / "j", SETTINGS) as journal:
        assert journal.done == RESULTS


def test_torn_anywhere_it_goes_on(tmp_path):
    write(tmp_path / "complete")
    complete = (tmp_path / "complete").read_bytes()
    starts = [0, *(i + 1 for i, byte in enumerate(complete) if byte == ord("\n"))]
    counts = set()
    for cut in [*range(0, len(complete), 7), len(complete)]:
        path = tmp_path / "torn"
        path.write_bytes(complete[:cut])
        with Journal(path, SETTINGS) as journal:
            n_done = len(journal.done)
            assert n_done == max(0, sum(start <= cut for start in starts[1:]) - 1)
            counts.add(n_done)
            for key, result in RESULTS.items():
                if key not in journal.done:
                    journal.add(key, result)
        assert path.read_bytes() == complete
    assert counts == {0, 1, 2, 3, 4}  # the control: cuts fell everywhere


def test_another_run_and_other_files_are_refused(tmp_path):
    write(tmp_path / "j")
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(UserError, match=r"other settings \(layer\)"):
        Journal(tmp_path / "j", SETTINGS | {"layer": 3})
    assert (tmp_path / "j").read_bytes() == before
    (tmp_path / "notes.txt").write_text("my notes\n")
    with pytest.raises(UserError, match="no journal"):
        Journal(tmp_path / "notes.txt", SETTINGS)
    assert (tmp_path / "notes.txt").read_text() == "my notes\n"
    with pytest.raises(UserError, match="there is no directory"):
        Journal(tmp_path / "absent" / "j", SETTINGS)
    assert not (tmp_path / "absent").exists()
    for text in ("one line", '{"schema": "other"', '{"schema": "diag.journal/3", "settings": '):
        (tmp_path / "notes.txt").write_text(text)  # without a newline, like a torn first line
        with pytest.raises(UserError, match="no journal"):
            Journal(tmp_path / "notes.txt", SETTINGS)
        assert (tmp_path / "notes.txt").read_text() == text


def test_one_process_has_it_and_a_device_is_none(tmp_path):
    with Journal(tmp_path / "j", SETTINGS) as journal:
        journal.add("a", 1)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".j.lock", "j"]
    assert [path.name for path in tmp_path.iterdir()] == ["j"]
    with pytest.raises(UserError, match="regular file"):
        Journal("/dev/null", SETTINGS)
    journal = Journal(tmp_path / "j", SETTINGS)
    journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_was_changed_is_no_result(tmp_path):
    write(tmp_path / "j")
    complete = (tmp_path / "j").read_bytes()
    digits = [i for i, byte in enumerate(complete) if chr(byte).isdigit()]
    assert len(digits) > 100
    for at in digits[:: len(digits) // 60]:
        changed = bytearray(complete)
        changed[at] = ord("5") if changed[at] != ord("5") else ord("6")
        (tmp_path / "j").write_bytes(changed)
        begun = changed.startswith(b'{"schema": "diag.journal/2", "settings": ')
        said = "was changed after it was written" if begun else "is no journal"
        with pytest.raises(UserError, match=said):
            Journal(tmp_path / "j", SETTINGS)
        assert (tmp_path / "j").read_bytes() == changed
    (tmp_path / "j").write_bytes(complete)
    with Journal(tmp_path / "j", SETTINGS) as journal:  # the control
        assert journal.done == RESULTS
