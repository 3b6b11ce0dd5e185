"""How far a call is: on a terminal, in a notebook, and not at all where nobody looks."""

from __future__ import annotations

from typing import Any

import pytest

from rome_diagnosis import progress
from rome_diagnosis.progress import Progress


def test_a_terminal_shows_a_bar_that_goes_when_the_work_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    bar = Progress(3)
    for done in range(4):
        bar(done)
    out, err = capsys.readouterr()
    assert out == ""
    assert "edits" in err
    assert "3/3" in err
    assert bar._bar is None  # closed by the last step
    bar.close()
    assert capsys.readouterr().err == ""


def test_a_bar_that_was_never_needed_leaves_no_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with pytest.raises(RuntimeError), Progress(3):
        raise RuntimeError
    with Progress(3, quiet=True) as bar:
        bar(1)
    assert capsys.readouterr() == ("", "")


def test_a_file_gets_a_line_every_half_minute_and_no_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Progress(100, label="requests") as bar:
        for done in range(101):
            bar(done)
            now += 1.0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "30 of 100 requests, 1:10 left",
        "60 of 100 requests, 0:40 left",
        "90 of 100 requests, 0:10 left",
    ]
    with progress.stages("work") as stage:
        stage("part")
    assert capsys.readouterr() == ("", "")
    progress.note("a long line " * 20)
    assert capsys.readouterr().err.count("\n") == 1


def test_steps_add_up_and_a_late_total_counts() -> None:
    bar = Progress(label="tokens", quiet=True)
    bar.total = 100
    bar.advance(30)
    bar.advance(20)
    assert (bar.done, bar.total) == (50, 100)
    bar(80, 200)
    assert (bar.done, bar.total) == (80, 200)


def test_a_notebook_updates_one_output_and_says_how_long_the_rest_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    display = pytest.importorskip(
        "IPython.display", reason="needs the extra: pip install '.[test]'"
    )
    shown: list[str] = []

    class Handle:
        def update(self, html: Any) -> None:
            shown.append(html.data)

    def show(html: Any, display_id: bool) -> Handle:
        shown.append(html.data)
        return Handle()

    clock = iter([100.0, 130.0, 160.0, 190.0])
    monkeypatch.setattr(display, "display", show)
    monkeypatch.setattr(progress, "_in_notebook", lambda: True)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    bar = Progress(40, label="<edits>")
    for done in (10, 20, 40):  # the first ten were done by an earlier run
        bar(done)
    assert "left" not in shown[0]
    assert "20 of 40 &lt;edits&gt;, 1:00 left" in shown[1]
    assert "left" not in shown[2]
    assert '<progress value="40" max="40">' in shown[2]
