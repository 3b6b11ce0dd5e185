"""Which edits of a data set would break the model? Keys and denominators of all of them.

``python -m diag.screen counterfact.json -o screened.parquet``, or from a notebook::

    from diag.screen import screen

    screen("counterfact.json", "screened.parquet")

Interrupted, the same command goes on where it was. Under ``torchrun`` the processes share the
work.
"""

from diag.screen.command import screen

__all__ = ["screen"]
