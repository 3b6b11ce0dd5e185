"""A progress bar for library calls, in a notebook or a terminal."""

from __future__ import annotations

import html
import sys
from typing import Any


class Progress:
    """Shows how far a call is: ``screen(..., progress=Progress())``.

    In a notebook it is one output that is updated; in a terminal one line on standard error.
    """

    def __init__(self, total: int | None = None, *, label: str = "edits") -> None:
        """Prepares a bar; it appears with the first call.

        Args:
            total: How many there are, for callers that do not say it
                (``verify_list(cases, progress=Progress(len(cases)))``).
            label: What is counted.
        """
        self.total, self.label = total, label
        self._handle: Any = None

    def __call__(self, done: int, total: int | None = None) -> None:
        """Shows a number of things done.

        Args:
            done: How many.
            total: Of how many; by default what was said at the start.
        """
        of = total or self.total
        text = f"{done:,} of {of:,} {self.label}" if of else f"{done:,} {self.label}"
        if _in_notebook():
            self._show(text, done, of)
        else:
            end = "\n" if of and done >= of else ""
            print(f"\r{text}", end=end, file=sys.stderr, flush=True)

    def _show(self, text: str, done: int, of: int | None) -> None:
        from IPython.display import HTML, display

        place = f' value="{done}" max="{of}"' if of else ""
        told = html.escape(text)
        bar = HTML(f"<label><progress{place}></progress> {told}</label>")
        if self._handle is None:
            self._handle = display(bar, display_id=True)
        else:
            self._handle.update(bar)


def _in_notebook() -> bool:
    """Whether a kernel runs this; IPython in a terminal has none."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell else None
    return running is not None and hasattr(running, "kernel")
