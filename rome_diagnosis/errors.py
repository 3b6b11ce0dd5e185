"""The one exception that stands for a user's mistake."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user can put right: its message is one line that says what and how.

    Commands print the message and exit with code 2; library callers catch it as a ``ValueError``.
    """
