"""Which edit of a list breaks the model? A forecast before the first is made, and the list itself.

``python -m diag.sequence edits.json``, with ``--perform`` to make the edits, or from a notebook::

    from diag.sequence import sequence

    sequence("edits.json", method="rome")
    sequence("edits.json", method="c_rome", perform=True)

May import :mod:`diag.apply`, :mod:`diag.batch`, :mod:`diag.judgement`, :mod:`diag.mathematics`,
:mod:`diag.screen`, :mod:`diag.tasks`, :mod:`diag.verify` and :mod:`probes`; :mod:`reports` only
inside functions.
"""

from typing import TYPE_CHECKING

from rome_diagnosis import lazy

if TYPE_CHECKING:
    from diag.sequence.api import sequence as sequence

__all__ = ["sequence"]
__getattr__, __dir__ = lazy.attach(__name__, dict.fromkeys(__all__, "diag.sequence.api"))
