"""Killed at any moment, or started twice: nothing that was finished is lost or doubled."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rome_diagnosis.disk.journal import Journal

ROOT = Path(__file__).parents[2]
RESULTS = 40
SETTINGS = {"layer": 1}
JOURNAL = f"""
import sys, time
from rome_diagnosis import command
from rome_diagnosis.disk.journal import Journal
def main(_):
    with Journal(sys.argv[1], {SETTINGS!r}) as journal:
        for i in range({RESULTS}):
            if str(i) not in journal.done:
                journal.add(str(i), "x" * 3000)
                time.sleep(0.005)
    return 0
command.run(main)
"""
TABLE = f"""
import sys, time
from diag.screen.table import Parts
from rome_diagnosis import command
from rome_diagnosis.disk import files
def main(_):
    with files.locked(sys.argv[1]):
        parts = Parts(sys.argv[1], {SETTINGS!r})
        for i in range({RESULTS}):
            if parts.path(i) is None:
                parts.write(i, [{{"row": 2 * i, "subject": "a"}}, {{"row": 2 * i + 1}}])
                time.sleep(0.005)
        parts.merge(range({RESULTS}), 2 * {RESULTS})
    return 0
command.run(main)
"""


def start(script: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )


def finished(path: Path) -> int:
    """How many results are safe."""
    if path.suffix == ".parquet":
        if path.exists():
            return RESULTS
        return len(list(path.with_name(f"{path.name}.parts").glob("0*.parquet")))
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return sum(line.endswith(b"\n") for line in lines[1:])


def check(path: Path) -> None:
    if path.suffix == ".parquet":
        assert pq.read_table(path).column("row").to_pylist() == list(range(2 * RESULTS))
    else:
        keys = [json.loads(line).get("key") for line in path.read_bytes().splitlines()]
        assert keys == [None, *map(str, range(RESULTS))]
        with Journal(path, SETTINGS) as journal:
            assert set(journal.done.values()) == {"x" * 3000}


@pytest.mark.parametrize("name", ["results.journal", "table.parquet"])
@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_at_any_moment_nothing_is_lost(kills: int, name: str, tmp_path: Path) -> None:
    script = TABLE if name.endswith(".parquet") else JOURNAL
    draw = random.Random(0)
    done = killed = 0
    while killed < kills:
        path = tmp_path / f"{killed}-{name}"
        while True:
            process = start(script, path)
            # Somewhere in the work: waiting for a result keeps the moment off the start.
            goal = draw.randint(done + 1, RESULTS + 20)
            while process.poll() is None and finished(path) < min(goal, RESULTS):
                time.sleep(0.001)
            if goal > RESULTS:  # left alone, or killed while the parts are put together
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait((goal - RESULTS) * 0.01 if goal < RESULTS + 10 else None)
            process.send_signal(signal.SIGKILL)
            _, message = process.communicate()
            assert message == ""
            killed += process.returncode == -signal.SIGKILL
            assert finished(path) >= done
            done = finished(path)
            if process.returncode == 0:
                break
        check(path)
        done = 0
    left = {entry.name for entry in tmp_path.iterdir() if not entry.name.endswith(".lock")}
    assert {Path(entry).suffix for entry in left} == {Path(name).suffix}


@pytest.mark.parametrize("name", ["results.journal", "table.parquet"])
@pytest.mark.parametrize("pairs", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_of_two_processes_on_one_output_one_is_told(pairs: int, name: str, tmp_path: Path) -> None:
    script = TABLE if name.endswith(".parquet") else JOURNAL
    refused = 0
    for pair in range(pairs):
        path = tmp_path / f"{pair}-{name}"
        both = [start(script, path), start(script, path)]
        messages = [process.communicate()[1] for process in both]
        codes = sorted(process.returncode for process in both)
        assert codes in ([0, 0], [0, 2])  # one may have ended before the other began
        for process, message in zip(both, messages, strict=True):
            if process.returncode:
                assert message.startswith(f"error: another process is writing {path}")
                assert message.count("\n") == 1
                refused += 1
        check(path)
    assert refused  # the control: they did meet
