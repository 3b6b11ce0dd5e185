"""Studies: what edits really do, held against what was said of them before they were made.

May import the four packages, :mod:`world` and :mod:`benchmarks.family`.
"""
