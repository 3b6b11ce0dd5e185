"""Figures of pages and notebooks: SVG for pages, matplotlib axes for papers.

May import :mod:`reports.tables`; matplotlib and :mod:`reports.pages` only inside functions.
"""
