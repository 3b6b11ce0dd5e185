"""Every result that any test makes is held against its schema, the moment it is made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from rome_diagnosis import envelope
from rome_diagnosis.schema import validate

RESULTS = {
    "diag.keys.result": ("KeyDiagnosis",),
    "diag.keys.compare": ("Diagnoses",),
    "diag.verify.result": ("Verification", "Comparison"),
    "diag.screen.result": ("Screening", "LayerScreening"),
    "diag.sequence.result": ("Trajectory",),
    "diag.covariance.result": ("SecondMoments",),
    "diag.sweep.result": ("LayerSweep",),
    "diag.batch.result": ("Batch",),
    "diag.saved.result": ("Applied",),
    "diag.hardcases.result": ("HardCases",),
    "diag.tasks.result": ("TaskScores",),
    "diag.surrogate.result": ("Surrogate",),
    "probes.first_token.run": ("FirstTokenProbes",),
}


@pytest.fixture(scope="session", autouse=True)
def results_are_what_their_schemas_say() -> Iterator[None]:
    """Refuses results whose documents, as they would be saved, are not valid."""
    with pytest.MonkeyPatch.context() as patch:
        for module, names in RESULTS.items():
            for name in names:
                _check(patch, getattr(import_module(module), name))
        yield


def _check(patch: pytest.MonkeyPatch, result: Any) -> None:
    construct = result.__init__

    def checked(self: Any, *arguments: Any, **named: Any) -> None:
        construct(self, *arguments, **named)
        # Of processes that share a job only the first has a document.
        if self.document and self.document.get("layers") != []:
            validate(json.loads(envelope.dumps(self.document)), source=result.__name__)

    patch.setattr(result, "__init__", checked)
