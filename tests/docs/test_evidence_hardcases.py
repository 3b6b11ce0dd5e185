"""docs/evidence/hardcases.json.gz: a thousand hard edits and their controls, some performed."""

from __future__ import annotations

from pathlib import Path

from reports.document import read_document

EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence" / "hardcases.json.gz"


def test_the_evidence_is_that_hard_edits_break_the_model_and_nothing_else_does() -> None:
    document = read_document(str(EVIDENCE))
    hard, easy = (document["groups"][name] for name in ("hard", "easy"))
    assert (hard["n"], easy["n"], easy["same_objects"]) == (1000, 1000, 1000)
    for group, broken in ((hard, {"rome": 60, "p_rome": 60}), (easy, {})):
        for arm, told in group["performed"].items():
            assert told["n"] == 60
            assert told["n"] - told["outcomes"]["intact"] == broken.get(arm, 0)
