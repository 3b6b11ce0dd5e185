"""Running a model: with hooks, without them, and with what GPT-2's layout allows to leave out.

May import :mod:`probes.model` only.
"""
