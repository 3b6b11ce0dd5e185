"""The fast path for GPT-2's layout: bare arithmetic on trees of texts with common beginnings.

Stands beside :mod:`probes.forward.unhooked`, which does the same for any architecture, and is held
to it by tests.

May import :mod:`probes.model` and the rest of :mod:`probes.forward`.
"""
