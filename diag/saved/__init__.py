"""A model with edits, saved beside the record of them, which takes them back bit for bit.

==========  ================================================================================
``choice``  the editor of an edit, and what the diagnosis says of it
``model``   the model is measured with its edits and written
``record``  what lies beside it: what was changed, and the original matrix
``result``  the saved model as a result that shows itself
==========  ================================================================================

May import :mod:`diag.judgement`, :mod:`diag.mathematics`, :mod:`diag.verify` and :mod:`probes`;
:mod:`reports` only inside functions.
"""
