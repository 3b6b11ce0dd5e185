"""Touches a model: loads it, runs it with hooks and brings back measurements.

The only package that imports ``transformer_lens``; it never imports ``diag`` or ``reports``.
"""
