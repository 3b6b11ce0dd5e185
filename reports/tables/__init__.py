"""Rows and terms that text, Markdown and pages share.

May import :mod:`reports.numbers` and :mod:`rome_diagnosis` only.
"""
