"""Documents as text in a terminal, one module for each command.

May import :mod:`reports.pages` and :mod:`reports.tables`, and rich.
"""
