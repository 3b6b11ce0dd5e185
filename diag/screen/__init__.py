"""Which edits of a data set would break the model? Keys and denominators of all of them.

``python -m diag.screen counterfact.json -o screened.parquet``, or from a notebook::

    from diag.screen import screen

    screen("counterfact.json", "screened.parquet")

``--layer all``, or :func:`screen_layers`, compares blocks: at which is the list safe to edit?

An interrupted run resumes when the same command is given again. Under ``torchrun`` the processes
share the work.

May import :mod:`diag.batch`, :mod:`diag.judgement`, :mod:`diag.mathematics`, :mod:`diag.sweep` and
:mod:`probes`; :mod:`diag.sequence` and :mod:`reports` only inside functions.
"""

from typing import TYPE_CHECKING

from rome_diagnosis import lazy

if TYPE_CHECKING:
    from diag.screen.api import screen as screen
    from diag.screen.api import screen_layers as screen_layers

__all__ = ["screen", "screen_layers"]
__getattr__, __dir__ = lazy.attach(__name__, dict.fromkeys(__all__, "diag.screen.api"))
