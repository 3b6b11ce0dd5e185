"""Which layer is safe to edit? The diagnosis of one fact at several blocks, and the sink there.

``python -m diag.keys --subject "Apple" --layer all``, or from a notebook::

    from diag.sweep import sweep

    sweep("Apple", "{} was founded by", layers=[1, 2, 5])

May import :mod:`diag.judgement`, :mod:`diag.keys` and :mod:`probes`; :mod:`reports` only inside
functions.
"""

from typing import TYPE_CHECKING

from rome_diagnosis import lazy

if TYPE_CHECKING:
    from diag.sweep.api import sweep as sweep

__all__ = ["sweep"]
__getattr__, __dir__ = lazy.attach(__name__, dict.fromkeys(__all__, "diag.sweep.api"))
