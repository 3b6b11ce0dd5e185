"""Is perplexity a good surrogate? Performed edits, held against downstream tasks.

``python -m diag.surrogate RESULTS…`` of results that were measured with ``--tasks``, or::

    from diag.surrogate import surrogate

    surrogate("verify.json", "sequence.json")

May import :mod:`diag.judgement` and :mod:`probes`; :mod:`reports` only inside functions.
"""

from typing import TYPE_CHECKING

from rome_diagnosis import lazy

if TYPE_CHECKING:
    from diag.surrogate.api import surrogate as surrogate

__all__ = ["surrogate"]
__getattr__, __dir__ = lazy.attach(__name__, dict.fromkeys(__all__, "diag.surrogate.api"))
