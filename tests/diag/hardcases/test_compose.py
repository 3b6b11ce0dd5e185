"""Composed edits: subjects of one token, whose keys are what they are in every wording."""

from __future__ import annotations

import pytest
import torch

from diag.hardcases import compose, wordings
from diag.screen.shard import Screener
from probes.setup import Prepared


def test_subjects_are_words_that_are_one_token_wherever_they_stand(setup: Prepared) -> None:
    words = compose.words(setup.model)
    assert {"Apple", "Paris"} <= set(words) and len(words) > 300
    assert not {"Pol", "Sch", "Ind"} & set(words)  # beginnings of words
    assert not {"The", "When"} & set(words)  # of which the vocabulary has both
    tokenizer = setup.model.tokenizer
    assert {"The", "When"} <= {entry.lstrip("Ġ") for entry in tokenizer.get_vocab()}
    for word in words:
        assert len(tokenizer(word)["input_ids"]) == 1
        assert len(tokenizer(f"Yes {word}")["input_ids"]) == len(tokenizer("Yes")["input_ids"]) + 1


def test_a_subjects_figures_are_those_of_every_edit_that_is_composed_with_it(
    composed: compose.Composition, screener: Screener
) -> None:
    measured = screener.screen([each.case.request for each in composed.hard])
    for each, row in zip(composed.hard, measured, strict=True):
        assert isinstance(row, dict)
        assert row["is_first_token"] and each.is_hard
        assert row["rho"] == pytest.approx(each.row["rho"], rel=1e-3, abs=1e-6)
        assert row["verdict"] == each.row["verdict"]
    subjects = [each.case.request.subject for each in composed.hard]
    assert len(set(subjects)) == 40  # each once before any comes twice
    assert len({each.relation for each in composed.hard}) == 29


def test_the_model_prefers_the_true_object_among_those_of_the_relation(
    composed: compose.Composition, setup: Prepared, relations: list[wordings.Relation]
) -> None:
    named = {relation.name: relation for relation in relations}
    tokenizer = setup.model.tokenizer
    for each in composed.hard[:10]:
        edit = each.case.request
        ids = torch.tensor([tokenizer(edit.text)["input_ids"]])
        with torch.no_grad():
            logits = setup.model.bridge.original_model(ids).logits[0, -1]
        scores = {
            other: float(logits[tokenizer(f" {other}")["input_ids"][0]])
            for other in named[each.relation].objects
        }
        assert scores[str(edit.target_true)] == pytest.approx(max(scores.values()), abs=1e-4)
        assert scores[str(edit.target_new)] < max(scores.values())
