"""Will editing this fact break the model? Keys, denominators, first-token statistics, verdict.

``python -m diag.keys --subject "Apple"``, or from a notebook::

    from diag.keys import diagnose

    diagnose("Apple", "{} was founded by")
"""

from diag.keys.command import diagnose

__all__ = ["diagnose"]
