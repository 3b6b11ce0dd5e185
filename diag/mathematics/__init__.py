"""Pure functions on float64 tensors: no model, no files, no limits.

May import :mod:`probes`, nothing else of :mod:`diag`, and no :mod:`reports`.
"""
