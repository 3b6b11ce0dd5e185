"""The target value v*: the MLP output that makes the model say the new object.

May import :mod:`probes.model`, :mod:`probes.request`, :mod:`probes.forward`, :mod:`probes.keys` and
:mod:`probes.edited`.
"""
