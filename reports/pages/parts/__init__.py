"""What every page is made of.

=============  ============================================================================
``sections``   a plain page's parts: headings over sentences, tables and figures
``publish``    contents, permalinks, tables and figures to take away
=============  ============================================================================

May import :mod:`reports.figures` and :mod:`reports.tables`, not the pages.
"""
