"""What results say of tasks: a point for each edited model, and nothing of what was not asked."""

from __future__ import annotations

from typing import Any

import pytest

from diag.surrogate import collect, surrogate
from rome_diagnosis.errors import UserError
from tests.documents import sample


def with_tasks(document: dict[str, Any], *names: str) -> dict[str, Any]:
    change = {"metric": "acc", "before": 0.8, "after": 0.5, "change_stderr": 0.1, "n": 9}
    for i, arm in enumerate(document["arms"].values()):
        own = change | {"after": 0.5 - i / 10}
        arm["tasks"] = dict.fromkeys(names, own)
    return document


def test_points_are_the_arms_without_a_prefix_at_test_time() -> None:
    document = with_tasks(sample("edit"), "a", "b")
    found = list(collect.points(document))
    assert [each["method"] for each in found] == ["rome", "c_rome", "p_rome"]
    rome = found[0]
    assert rome["change"] == pytest.approx(-0.3)
    assert rome["change_stderr"] == pytest.approx(0.1 / 2**0.5)
    assert rome["ratio"] == document["arms"]["rome"]["perplexity"]["ratio"]
    held = surrogate(document)
    assert len(held.to_pandas()) == 3 and "Surrogate(3 edited models" in repr(held)


def test_a_list_s_checkpoints_are_points_of_one_group() -> None:
    document = sample("sequence_performed")
    for checkpoint in document["checkpoints"]:
        checkpoint["tasks"] = with_tasks(sample("edit"), "a")["arms"]["rome"]["tasks"]
    found = list(collect.points(document))
    assert len(found) == len(document["checkpoints"])
    assert {each["group"] for each in found} == {"sequence"}
    assert found[0]["damage"] == document["checkpoints"][0]["damage_predicted"]


def test_results_that_say_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="measure with --tasks"):
        surrogate(sample("edit"))
    with pytest.raises(UserError, match="holds no performed edits"):
        surrogate(sample("keys"))
    with pytest.raises(UserError, match="were asked different tasks"):
        surrogate(with_tasks(sample("edit"), "a"), with_tasks(sample("edit"), "b"))
