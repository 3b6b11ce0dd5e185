"""Beside the published code: the same numbers, and how long both sides take.

May import the four packages and :mod:`benchmarks.sides`, and the published code it runs.
"""
