"""Keys: the input of the edited MLP's output projection at the subject's last token.

May import :mod:`probes.model`, :mod:`probes.request` and :mod:`probes.forward`.
"""
