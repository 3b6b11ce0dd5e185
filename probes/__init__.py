"""Touches a model: everything that loads one, runs it and brings back measurements.

A model comes in, tensors and plain records go out; what they mean is decided in :mod:`diag`.
Imports :mod:`rome_diagnosis` (errors, files, command line) and never :mod:`diag` or
:mod:`reports`. Only this package may import ``transformer_lens``.

==================  ======================================================================
``model``           find, load and describe a model; all knowledge of architectures
``request``         the edit that is asked for, the subject's last token, the prefixes
``forward``         running a model: with hooks, without them, and a fast path for GPT-2
``keys``            keys of one edit, of many edits, and how the first position differs
``second_moment``   C = E[k kᵀ]: estimate, merge, import, shrink, cache
``reading``         files that users hand in, taken apart row by row
``text``            corpora, and texts from files and data sets
``target_value``    v*, the optimised target value
``statistics``      means with intervals, AUC, rank correlation
``setup``           model, layer, contexts and second moment of one job
``edited``          an edited model: its weights, perplexity, answers
``tasks``           downstream tasks, asked by lm-evaluation-harness
``first_token``     where and why keys of first tokens differ
``ranks``           several processes at one task, started by ``torchrun``
``shelf``           tensors that wait on disk; ``memory``: freed memory, given back
``bundled``         the small model that ships with the package
==================  ======================================================================
"""

from rome_diagnosis import lazy

__getattr__, __dir__ = lazy.attach(__name__)
