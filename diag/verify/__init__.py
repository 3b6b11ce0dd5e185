"""Perform an edit four ways and measure what becomes of the model.

``python -m diag.verify --subject "Apple" --target-new "Bill Gates"``, a list with
``--edits FILE``, or from a notebook::

    from diag.verify import verify

    verify("Apple", "{} was founded by", target_new="Bill Gates", target_true="Steve Jobs")

May import :mod:`diag.judgement`, :mod:`diag.keys`, :mod:`diag.mathematics`, :mod:`diag.surrogate`,
:mod:`diag.tasks` and :mod:`probes`; :mod:`diag.batch` and :mod:`reports` only inside functions.
"""

from typing import TYPE_CHECKING

from rome_diagnosis import lazy

if TYPE_CHECKING:
    from diag.verify.api import verify as verify
    from diag.verify.api import verify_list as verify_list

__all__ = ["verify", "verify_list"]
__getattr__, __dir__ = lazy.attach(__name__, dict.fromkeys(__all__, "diag.verify.api"))
