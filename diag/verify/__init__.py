"""Perform an edit four ways and measure what becomes of the model.

``python -m diag.verify --subject "Apple" --target-new "Bill Gates"``, a list with
``--edits FILE``, or from a notebook::

    from diag.verify import verify

    verify("Apple", "{} was founded by", target_new="Bill Gates", target_true="Steve Jobs")
"""

from diag.verify.command import verify, verify_list

__all__ = ["verify", "verify_list"]
