"""A list that a method cannot make, or to no effect: said before the first edit."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from diag.sequence import sequence
from probes.request.records import read_edits
from probes.setup import Prepared
from rome_diagnosis.errors import UserError
from rome_diagnosis.methods import METHODS
from tests.diag.sequence.listing import LAYER, PREFIXES


def test_a_list_that_cannot_be_made_is_one_line(setup: Prepared, file: Path) -> None:
    case = read_edits(file).cases[7]
    options: dict[str, Any] = {
        "method": "emmet", "model": setup.model, "layer": LAYER, "prefixes": list(PREFIXES),
        "second_moment": setup.moment, "quiet": True, "parameters": {"damping": 0.0},
    }  # fmt: skip
    with pytest.raises(UserError, match="EMMET cannot make this list 2 at a time: two keys"):
        sequence([case, case], batch=2, **options)
    assert sequence([case, case], batch=1, **options).document["forecast"]["damage"]


@pytest.mark.parametrize("method", ["memit_seq", "alphaedit", "encore"])
def test_what_cannot_be_remembered_is_one_line(method: str, setup: Prepared, file: Path) -> None:
    """A regulariser so small that keys that come twice are lost to rounding."""
    cases = read_edits(file).cases
    for size in (1e-30, 1.0):
        tuned = {"weight": size, "l2": size, "ridge": 0.0, "threshold": 0.1}
        options: dict[str, Any] = {
            "method": method, "model": setup.model, "layer": LAYER, "prefixes": list(PREFIXES),
            "second_moment": setup.moment, "quiet": True,
            "parameters": {name: tuned[name] for name in METHODS[method].parameters},
        }  # fmt: skip
        refused = pytest.raises(UserError, match="at a time: what it inverts is singular")
        with refused if size < 1 else nullcontext():
            sequence([*cases, *cases], **options)


def test_a_projector_that_leaves_nothing_is_said(setup: Prepared, file: Path) -> None:
    said = {}
    for threshold in (0.0, 0.1):
        said[threshold] = sequence(
            read_edits(file).cases[:3], method="alphaedit", model=setup.model, layer=LAYER,
            prefixes=list(PREFIXES), second_moment=setup.moment, quiet=True,
            parameters={"threshold": threshold, "l2": 0.01},
        ).document["advice"]  # fmt: skip
    assert "nothing is edited; raise --threshold" in said[0.0][0]
    assert not any("--threshold" in sentence for sentence in said[0.1])
