"""Rendering only: a saved JSON document becomes text, Markdown or a page. No torch, no model."""
