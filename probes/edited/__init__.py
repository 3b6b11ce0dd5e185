"""An edited model: its weights, and what it says and how well it predicts text afterwards.

May import :mod:`probes.model`, :mod:`probes.request`, :mod:`probes.forward` and :mod:`probes.text`.
"""
