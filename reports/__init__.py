"""Rendering only: a saved JSON document becomes text, Markdown or a page. No torch, no model.

============  =============================================================================
``document``  saved results, read and checked against their schemas
``api``       the library's ``render``; ``command``: ``python -m reports``
``text``      documents as text in a terminal, one module for each command
``pages``     documents as self-contained HTML, one module for each kind of page
``figures``   the figures of pages and notebooks
``pdf``       a page's figures in one file; ``markdown``: documents as Markdown
``style``     the style sheet of pages, with the colours of ``colours``
``tables``    rows and terms that text, Markdown and pages share
============  =============================================================================

Imports :mod:`rome_diagnosis` alone.
"""

from rome_diagnosis import lazy

__getattr__, __dir__ = lazy.attach(__name__)
