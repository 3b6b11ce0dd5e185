"""A progress bar with the remaining time, for notebooks and terminals."""

from __future__ import annotations

import contextlib
import html
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

LOG_EVERY = 30.0  # seconds between lines where there is no terminal


class Progress:
    """A bar that appears with the first call: ``screen(..., progress=Progress())``.

    In a notebook it is one output that is updated, in a terminal one line on standard error;
    where standard error is a file, a line is added every half minute.
    """

    def __init__(
        self, total: int | None = None, *, label: str = "edits", quiet: bool = False
    ) -> None:
        """Prepares a bar.

        Args:
            total: How many there are, for callers that do not say it
                (``verify_list(cases, progress=Progress(len(cases)))``).
            label: What is counted.
            quiet: Show nothing.
        """
        self.total, self.label, self.quiet = total, label, quiet
        self.done = 0
        self._handle: Any = None
        self._bar: Any = None
        self._logged = 0.0
        # What was done when the bar appeared (an earlier run may have done it), and when.
        self._start: tuple[int, float] | None = None

    def __call__(self, done: int, total: int | None = None) -> None:
        """Shows how many are done.

        Args:
            done: Number done so far.
            total: Number of all of them; by default the number given at the start.
        """
        self.total = total or self.total
        self.done = done
        if self.quiet:
            return
        self._start = self._start or (done, time.monotonic())
        if _in_notebook():
            self._show()
        else:
            self._draw()

    def advance(self, n: int) -> None:
        """Shows that ``n`` more are done."""
        self(self.done + n)

    def close(self) -> None:
        """Takes the bar off a terminal, its last line included."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Progress:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the bar."""
        self.close()

    def _draw(self) -> None:
        if not _on_terminal():
            self._log()
            return
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        if self._bar is None:
            columns = (*Bar.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self.label, total=self.total)
            self._bar.start()
        self._bar.update(self._task, completed=self.done, total=self.total)
        if self.total and self.done >= self.total:
            self.close()

    def _log(self) -> None:
        """One line now and then, for a job whose output goes to a file."""
        assert self._start is not None
        if time.monotonic() - max(self._start[1], self._logged) >= LOG_EVERY:
            self._logged = time.monotonic()
            print(self._text(), file=sys.stderr, flush=True)

    def _text(self) -> str:
        of = self.total
        text = f"{self.done:,} of {of:,} {self.label}" if of else f"{self.done:,} {self.label}"
        remaining = self._remaining()
        return f"{text}, {remaining} left" if remaining else text

    def _show(self) -> None:
        from IPython.display import HTML, display

        of = self.total
        place = f' value="{self.done}" max="{of}"' if of else ""
        bar = HTML(f"<label><progress{place}></progress> {html.escape(self._text())}</label>")
        if self._handle is None:
            self._handle = display(bar, display_id=True)
        else:
            self._handle.update(bar)

    def _remaining(self) -> str | None:
        """Time needed for the rest at the present pace, e.g. ``1:05``."""
        assert self._start is not None
        at_start, began = self._start
        if not self.total or not at_start < self.done < self.total:
            return None
        each = (time.monotonic() - began) / (self.done - at_start)
        minutes, seconds = divmod(round(each * (self.total - self.done)), 60)
        return f"{minutes}:{seconds:02}"


@contextlib.contextmanager
def stages(label: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Says on a terminal which part of a job is under way.

    Args:
        label: The job.
        quiet: Show nothing.

    Yields:
        What to call with the name of each part.
    """
    if quiet or not _on_terminal():
        yield lambda name: None
        return
    from rich.console import Console
    from rich.text import Text

    from rome_diagnosis.text import line

    with Console(stderr=True).status(Text(line(label))) as status:
        # Text is no markup: a subject may hold brackets.
        yield lambda name: status.update(Text(line(f"{label}: {name}")))


def note(line: str) -> None:
    """Prints a line that the user should read beside the result, on standard error."""
    from rich.console import Console
    from rich.text import Text

    from rome_diagnosis.text import line as cleaned

    Console(stderr=True).print(Text.assemble(("note: ", "yellow"), cleaned(line)), soft_wrap=True)


def _on_terminal() -> bool:
    from rich.console import Console

    return Console(stderr=True).is_terminal


def _in_notebook() -> bool:
    """Whether a kernel runs this; IPython in a terminal has none."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell else None
    return running is not None and hasattr(running, "kernel")
