"""The head of every document, and JSON without what JSON does not have."""

from __future__ import annotations

import datetime
import math
import shlex

import pytest

from rome_diagnosis import envelope
from rome_diagnosis.version import __version__


def test_every_document_begins_alike() -> None:
    head = envelope.head("diag.keys/1", "python -m diag.keys", "scikit-learn")
    assert list(head) == ["schema", "version", "created", "versions", "command"]
    assert head["version"] == __version__
    assert set(head["versions"]) == {"python", *envelope.LIBRARIES, "scikit-learn"}
    created = datetime.datetime.fromisoformat(head["created"])
    assert created.tzinfo is not None
    assert shlex.split(head["command"])[0] == "python"


def test_what_is_not_finite_is_not_there_and_all_else_stays() -> None:
    value = {"a": [1.5, math.inf, (math.nan, "x")], "b": -math.inf, "c": None, "d": True, "e": 3}
    assert envelope.finite(value) == {
        "a": [1.5, None, [None, "x"]], "b": None, "c": None, "d": True, "e": 3,
    }  # fmt: skip
    assert envelope.finite(math.nan) is None
    assert envelope.finite(0.0) == 0.0


def test_a_document_in_memory_is_the_one_on_disk() -> None:
    assert envelope.plain({"tuple": (1, 2), "ρ": "é"}) == {"tuple": [1, 2], "ρ": "é"}
    assert envelope.dumps({"ρ": 1.0}) == '{\n  "ρ": 1.0\n}\n'
    with pytest.raises(ValueError, match="JSON compliant"):
        envelope.dumps({"x": math.nan})
