"""From numbers to meaning: limits, findings, verdicts, sentences. No model, no files.

May import :mod:`diag.mathematics` and :mod:`probes`, no command, and no :mod:`reports`.
"""
