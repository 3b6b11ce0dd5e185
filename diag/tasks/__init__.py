"""What can the model still do? Downstream tasks with EleutherAI's lm-evaluation-harness.

``python -m diag.tasks --model DIR``, or from a notebook::

    from diag.tasks import tasks

    tasks(model="edited")

Without a network by default: the tasks over the bundled world come along, and JSON Lines load by
path. ``--tasks`` of ``diag.verify`` and ``diag.sequence`` asks the same after each edit.

May import :mod:`probes`, nothing else of :mod:`diag`, and :mod:`reports` only inside functions.
"""

from typing import TYPE_CHECKING

from rome_diagnosis import lazy

if TYPE_CHECKING:
    from diag.tasks.api import tasks as tasks

__all__ = ["tasks"]
__getattr__, __dir__ = lazy.attach(__name__, dict.fromkeys(__all__, "diag.tasks.api"))
