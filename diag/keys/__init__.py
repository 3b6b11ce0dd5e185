"""Will editing this fact break the model? Keys, denominators, first-token statistics, verdict.

``python -m diag.keys --subject "Apple"``, or from a notebook::

    from diag.keys import diagnose

    diagnose("Apple", "{} was founded by")

May import :mod:`diag.judgement`, :mod:`diag.mathematics`, :mod:`diag.sweep` and :mod:`probes`;
:mod:`diag.batch` and :mod:`reports` only inside functions.
"""

from typing import TYPE_CHECKING

from rome_diagnosis import lazy

if TYPE_CHECKING:
    from diag.keys.api import diagnose as diagnose

__all__ = ["diagnose"]
__getattr__, __dir__ = lazy.attach(__name__, dict.fromkeys(__all__, "diag.keys.api"))
