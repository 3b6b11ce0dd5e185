"""What every document holds, kind by kind, and whether a document is one.

=================  ===============================================================
``keys``           ``diag.keys/1``: what one edit would do
``verify``         ``diag.verify/1`` of one performed edit
``verify_list``    ``diag.verify/1`` of a list of them
``screen``         ``diag.screen/1``: a screened data set and its table
``sequence``       ``diag.sequence/1``: a list of edits made one after another
``batch``          ``diag.batch/1``: a batch of edits, before it is made and after
``apply``          ``diag.apply/1``: edits that were made to stay
``blocks``         ``diag.covariance/1``: second moments; ``diag.sweep/1``: one edit at blocks;
                   ``diag.screen_layers/1``: a screened data set at blocks;
                   ``diag.compare/1``: several diagnoses
``hardcases``      ``diag.hardcases/1``: the card of hard edits and their controls
``tasks``          ``diag.tasks/1``: downstream tasks; ``diag.surrogate/1``
``first_token``    ``probes.first_token/1``: why first-token keys differ
``parts``          what several kinds have in common
``words``          types in words, for messages and ``docs/schema.md``
``validation``     :func:`validate`
=================  ===============================================================

A field that an older document may lack is ``NotRequired``; a number is null exactly where it may
not have been measured. Further fields are allowed, so that a document may hold more than this
version knows; where every name stands for the same kind of thing (editors, arms), a further name
must stand for that too. Imports the rest of :mod:`rome_diagnosis` alone.
"""

from rome_diagnosis.schema.validation import KINDS, validate

__all__ = ["KINDS", "validate"]
