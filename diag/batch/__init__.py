"""A batch of edits by any method of the family: what it would do, and what it does.

``python -m diag.batch edits.json --method memit``, or from a notebook::

    from diag.batch import batch

    found = batch("edits.json", method="memit", layers=[13, 14, 15, 16, 17])
    found.verdict, found.findings

Before anything is optimised: the denominator matrix M and the pairs that make it ill conditioned,
which edits may not take, which disturb which, what ordinary tokens suffer, and what λ means for a
model of this width. With ``perform=True`` the batch is written for real, layer by layer, measured,
and taken back bit for bit.

May import :mod:`diag.judgement`, :mod:`diag.mathematics`, :mod:`diag.verify` and :mod:`probes`;
:mod:`reports` only inside functions.
"""

from typing import TYPE_CHECKING

from rome_diagnosis import lazy

if TYPE_CHECKING:
    from diag.batch.api import batch as batch
    from diag.batch.result import Batch as Batch

__all__ = ["Batch", "batch"]
__getattr__, __dir__ = lazy.attach(
    __name__, {"Batch": "diag.batch.result", "batch": "diag.batch.api"}
)
