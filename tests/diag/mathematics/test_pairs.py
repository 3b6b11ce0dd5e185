"""The pairs of a batch that are named, each kind with a batch that has none."""

from __future__ import annotations

import torch

from diag.mathematics.pairs import contradictions, pairs
from probes.request.request import request

EDITS = [
    request("Apple", "{} was founded by", target_new="Bill Gates"),
    request("Paris", "{} lies in", target_new="Spain"),
    request("apple", "{} is in", target_new="Spain"),
    request("Apple", "{} was founded by", target_new="Ada Lovelace"),
    request("London", "{} lies in", target_new="Italy"),
]


def test_every_kind_is_named_and_contradictions_come_first() -> None:
    cosines = torch.eye(5, dtype=torch.float64)
    cosines[1, 4] = cosines[4, 1] = -0.95
    cosines[0, 2] = cosines[2, 0] = 0.5
    cosines[0, 3] = cosines[3, 0] = 0.2
    found = pairs(EDITS, cosines, limit=0.9)
    assert [(p.first, p.second, p.kind) for p in found] == [
        (0, 3, "contradiction"),
        (1, 4, "parallel_keys"),
        (0, 2, "same_subject"),
        (2, 3, "same_subject"),
    ]
    assert found[1].cosine == -0.95


def test_a_batch_without_such_pairs_has_none() -> None:
    assert pairs(EDITS[:2], torch.eye(2, dtype=torch.float64), limit=0.9) == []
    same_again = [EDITS[0], EDITS[0]]  # the same fact twice with one object is no contradiction
    (pair,) = pairs(same_again, torch.ones(2, 2, dtype=torch.float64), limit=0.9)
    assert pair.kind == "same_subject"


def test_contradictions_are_known_from_the_requests_alone() -> None:
    assert contradictions(EDITS) == [(0, 3)]
    assert contradictions([EDITS[0], EDITS[0], EDITS[3], EDITS[3]]) == [(0, 2), (0, 3)]
    assert contradictions(EDITS[:3]) == []
