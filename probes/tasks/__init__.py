"""Downstream tasks by EleutherAI's lm-evaluation-harness, on the model in memory.

``harness`` runs them, ``files`` reads tasks from JSON Lines, ``bundled`` holds the harness's task
files over the bundled world; ``meter`` asks a model before and after an edit.

May import :mod:`probes.edited`, :mod:`probes.forward`, :mod:`probes.model` and
:mod:`probes.reading`; ``lm_eval`` only inside functions.
"""
