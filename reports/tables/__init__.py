"""Rows and terms that text, Markdown and pages share."""
