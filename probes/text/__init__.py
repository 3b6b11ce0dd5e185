"""Text: corpora as rows of tokens, and texts from files and data sets.

May import :mod:`probes.reading` and :mod:`probes.model`.
"""
