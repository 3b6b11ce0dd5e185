"""The diagnosis of one edit: observe, judge, write down."""

from __future__ import annotations

from diag.keys.document import document
from diag.keys.judge import judge
from diag.keys.result import KeyDiagnosis
from probes.keys.observe import observe
from probes.request.request import Request
from probes.setup import Prepared
from probes.target_value.hyperparameters import Hyperparameters


def diagnose(edit: Request, at: Prepared, *, hyperparameters: Hyperparameters) -> KeyDiagnosis:
    """Diagnoses one edit with a model that is loaded.

    Args:
        edit: The fact and its prompt.
        at: Model, layer, contexts and second moment.
        hyperparameters: How v* is optimised, and so how long its δ gets.

    Returns:
        The diagnosis.

    Raises:
        UserError: If a context cannot be looked up, or the keys are zero or not finite.
    """
    observation = observe(at.model, edit, at.layer, at.prefixes)
    judgement = judge(observation, at.moment, hyperparameters=hyperparameters, seed=at.seed)
    written = document(observation, judgement, at.moment, seed=at.seed, sampled=at.sampled)
    return KeyDiagnosis(written, observation.keys, at.moment)
