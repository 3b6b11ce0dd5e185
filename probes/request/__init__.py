"""What is to be edited: requests, files of edits, the subject's last token, sampled prefixes.

May import :mod:`probes.reading`, :mod:`probes.model` and :mod:`probes.forward`.
"""
