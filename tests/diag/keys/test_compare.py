"""Several diagnoses at once are the single ones, side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from diag.keys import diagnose
from diag.keys.compare import Diagnoses, compare
from probes.model.loaded import LoadedModel
from reports.command import main
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
    rows = several.document["rows"]
    for name in ("rome", "c_rome", "p_rome"):
        own = [result.document["damage"][name]["relative_bound"] for result in several]
        assert list(table[f"relative_bound_{name}"]) == own
        assert [row["editors"][name]["relative_bound"] for row in rows] == own
    for plot in (several.plot_panels, several.plot_damage, several.plot_first_tokens):
        assert "Apple" in repr(plot()) and "Paris" in repr(plot())


def test_the_small_multiples_show_every_diagnosis_on_every_panel(several: Diagnoses) -> None:
    panels = several.plot_panels().axes.child_axes
    checked = any(row["editors"]["rome"]["relative_bound"] for row in several.document["rows"])
    assert len(panels) == (4 if checked else 2)
    (ratio, *others) = panels
    drawn = [line.get_xdata()[0] for line in ratio.lines if line.get_marker() == "o"]
    assert drawn == [result.ratio for result in several]
    shares = {line.get_label(): list(line.get_xdata()) for line in others[-1].lines}
    assert shares["C-ROME"] == [result.response["c_rome"]["bare"] for result in several]
    assert [text.get_text() for text in ratio.get_yticklabels()] == several.labels()


def test_the_comparison_is_a_page_and_a_document(several: Diagnoses, tmp_path: Path) -> None:
    page = several.to_html()
    assert "2 diagnoses side by side" in page and "differ in subject." in page
    several.save(tmp_path / "both.json")
    assert main([str(tmp_path / "both.json"), "-o", str(tmp_path / "both.html")]) == 0
    assert (tmp_path / "both.html").read_text(encoding="utf-8") == page
    assert several.document["differ"] == ["subject"]


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
    other = diagnose("Apple", "{} is", model=tiny_model("gpt2"), layer=1, quiet=True)
    assert compare([several[0], other]).labels() == ["{} was", "{} is"]
    assert compare([several[1], other]).labels() == ["Paris", "Apple"]  # the subject says enough


def test_nothing_and_other_things_are_refused(
    several: Diagnoses, tiny_model: Callable[[str], LoadedModel]
) -> None:
    with pytest.raises(UserError, match="nothing to compare"):
        compare([])
    with pytest.raises(UserError, match=r"not str: give what diagnose\(\) returns"):
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
