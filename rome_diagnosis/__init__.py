"""Will a rank-one edit break this model, why, and what to do instead?

Every library call by one name, imported when it is first used::

    import rome_diagnosis as rd

    rd.diagnose("Apple", "{} was founded by")

====================  ===============================================================
``diagnose``          will editing this fact break the model?
``apply``, ``undo``   make the recommended edit, save the model, take it back
``guard``             raise before a dangerous edit, whatever editor is about to make it
``verify``            perform an edit four ways and measure the model
``verify_list``       the same for a list of edits, with groups compared
``compare``           several diagnoses side by side: one table, one figure
``sweep``             the same at several blocks: which layer is safe to edit?
``batch``             what a batch by MEMIT and its family would do, and what it does
``hardcases``         a benchmark of edits that break this model, with controls and a data card
``screen``            the check of ``diagnose`` for every edit of a data set
``screen_layers``     the same at several blocks: which layer is safe for this list?
``sequence``          which edit of a list breaks the model? before the first is made
``tasks``             what can a model still do? by lm-evaluation-harness
``surrogate``         perplexity and damage of performed edits, held against tasks
``second_moments``    estimate the second moments C that edits are judged by
``probe``             where and why first-token keys differ
``load_model``        load a model once, for many calls
``render``            saved results as a self-contained page
====================  ===============================================================

The modules here are the foundation that :mod:`probes`, :mod:`diag` and :mod:`reports` stand on:
errors, files, command line, options, journal, progress, document heads, the table of editors and
the schemas of documents. None of them imports torch.
"""

from typing import TYPE_CHECKING

from rome_diagnosis import lazy

if TYPE_CHECKING:
    from diag.apply.api import apply as apply
    from diag.apply.danger import DangerousEdit as DangerousEdit
    from diag.apply.danger import guard as guard
    from diag.batch.api import batch as batch
    from diag.covariance.api import second_moments as second_moments
    from diag.hardcases.api import hardcases as hardcases
    from diag.keys.api import diagnose as diagnose
    from diag.keys.compare import compare as compare
    from diag.saved.record import undo as undo
    from diag.screen.api import screen as screen
    from diag.screen.api import screen_layers as screen_layers
    from diag.sequence.api import sequence as sequence
    from diag.surrogate.api import surrogate as surrogate
    from diag.sweep.api import sweep as sweep
    from diag.tasks.api import tasks as tasks
    from diag.verify.api import verify as verify
    from diag.verify.api import verify_list as verify_list
    from probes.first_token.api import probe as probe
    from probes.setup import load_model as load_model
    from reports.api import render as render
    from rome_diagnosis.errors import UserError as UserError
    from rome_diagnosis.version import __version__ as __version__

_NAMES = {
    "DangerousEdit": "diag.apply.danger",
    "UserError": "rome_diagnosis.errors",
    "__version__": "rome_diagnosis.version",
    "apply": "diag.apply.api",
    "compare": "diag.keys.compare",
    "batch": "diag.batch.api",
    "diagnose": "diag.keys.api",
    "guard": "diag.apply.danger",
    "hardcases": "diag.hardcases.api",
    "load_model": "probes.setup",
    "probe": "probes.first_token.api",
    "render": "reports.api",
    "screen": "diag.screen.api",
    "screen_layers": "diag.screen.api",
    "sequence": "diag.sequence.api",
    "second_moments": "diag.covariance.api",
    "surrogate": "diag.surrogate.api",
    "sweep": "diag.sweep.api",
    "tasks": "diag.tasks.api",
    "undo": "diag.saved.record",
    "verify": "diag.verify.api",
    "verify_list": "diag.verify.api",
}
__all__ = list(_NAMES)
__getattr__, __dir__ = lazy.attach(__name__, _NAMES)
