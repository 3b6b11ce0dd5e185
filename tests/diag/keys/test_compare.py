"""Several diagnoses at once are the single ones, side by side."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from diag.keys import diagnose
from diag.keys.compare import Diagnoses, compare
from probes.model.loaded import LoadedModel
from rome_diagnosis.errors import UserError

COMMON = {"prompt": "{} was", "layer": 1, "quiet": True}


@pytest.fixture(scope="module")
def several(tiny_model: Callable[[str], LoadedModel]) -> Diagnoses:
    found = diagnose(["Apple", "Paris"], model=tiny_model("gpt2"), **COMMON)
    assert isinstance(found, Diagnoses)
    return found


def test_every_subject_has_its_own_diagnosis(
    several: Diagnoses, tiny_model: Callable[[str], LoadedModel]
) -> None:
    alone = diagnose("Paris", model=tiny_model("gpt2"), **COMMON)
    assert several[1].ratio == alone.ratio != several[0].ratio
    assert len(several) == 2 and [each.verdict for each in several][1] == alone.verdict
    assert isinstance(several[:1], Diagnoses)


def test_they_are_one_table_and_figures(several: Diagnoses) -> None:
    table = several.to_pandas()
    assert list(table["subject"]) == ["Apple", "Paris"]
    assert list(table["rho"]) == [result.ratio for result in several]
    assert set(table["layer"]) == {1} and "<table" in several._repr_html_()
    for plot in (several.plot_damage, several.plot_first_tokens):
        assert "Apple" in repr(plot()) and "Paris" in repr(plot())


def test_what_differs_names_them(
    several: Diagnoses, tiny_model: Callable[[str], LoadedModel]
) -> None:
    assert several.labels() == ["Apple", "Paris"]
    seeds = [diagnose("Apple", model=tiny_model("gpt2"), seed=seed, **COMMON) for seed in (0, 1)]
    assert compare(seeds).labels() == ["seed 0", "seed 1"]
    assert compare([*seeds, several[1]]).labels() == [
        "Apple, seed 0",
        "Apple, seed 1",
        "Paris, seed 0",
    ]
    assert compare(seeds[:1]).labels() == ["Apple"]


def test_nothing_and_other_things_are_refused(
    several: Diagnoses, tiny_model: Callable[[str], LoadedModel]
) -> None:
    with pytest.raises(UserError, match="nothing to compare"):
        compare([])
    with pytest.raises(UserError, match="only diagnoses can be compared, not str"):
        compare([several[0], "Apple"])
    for one in (None, several[0]):
        with pytest.raises(UserError, match="takes a list of diagnoses"):
            compare(one)
    for no_subject in ({"subject": "Apple"}, 3):
        with pytest.raises(UserError, match="a subject is a text, or a list of texts, not"):
            diagnose(no_subject)
    with pytest.raises(UserError, match="there is no subject"):
        diagnose([], model=tiny_model("gpt2"))
    with pytest.raises(UserError, match="subject"):
        diagnose([3], model=tiny_model("gpt2"))
