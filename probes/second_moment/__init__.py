"""The second moment C = E[k kᵀ] of keys over corpus tokens: estimate, merge, import, cache.

May import :mod:`probes.model`, :mod:`probes.forward`, :mod:`probes.text` and :mod:`probes.keys`.
"""
