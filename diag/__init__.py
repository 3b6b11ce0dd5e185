"""Mathematics and meaning: what measurements say about an edit, and the commands that say it.

==================  ======================================================================
``mathematics``     pure functions on tensors: update equation, damage, population, redraws
``judgement``       limits, findings, verdicts and the sentences made from them
``keys``            command: will this edit break the model?
``verify``          command: perform edits and measure what became of the model
``screen``          command: the check of ``keys`` for every edit of a data set
``sequence``        command: which edit of a list breaks the model
``sweep``           the check of ``keys`` at several blocks (``diag.keys --layer all``)
``batch``           command: a batch by MEMIT and its family, checked and made
``apply``           command: make the recommended edit, save the model, take it back
``saved``           a model with edits, written beside what takes them back
``hardcases``       command: a benchmark of edits that break this model, with its card
``tasks``           command: downstream tasks by lm-evaluation-harness
``surrogate``       command: perplexity and damage held against tasks
``covariance``      command: estimate, merge and import second moments
==================  ======================================================================

May import :mod:`probes` and :mod:`rome_diagnosis`; imports :mod:`reports` only inside functions, so
that results can show themselves.
"""

from rome_diagnosis import lazy

__getattr__, __dir__ = lazy.attach(__name__)
