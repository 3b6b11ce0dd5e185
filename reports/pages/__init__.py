"""Documents as self-contained HTML: ``page``, and one module for each kind of page.

What all of them are made of lies in :mod:`reports.pages.parts`, their text in ``templates``.

May import :mod:`reports.figures` and :mod:`reports.tables`; jinja2 only inside functions.
"""
