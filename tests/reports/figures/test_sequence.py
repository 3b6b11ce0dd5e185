"""Figures of a list of edits: the forecast, its band, and what was measured."""

from __future__ import annotations

from typing import Any

import pytest

from diag.sequence.result import Trajectory
from reports.figures import sequence as figures
from reports.pages.page import render
from reports.tables import sequence
from rome_diagnosis.errors import UserError
from tests.documents import with_tasks
from tests.reports.reading import parse, words

Document = dict[str, Any]


def test_the_band_is_drawn_before_the_measured_curve(made: Document) -> None:
    drawing = figures.damage(made)
    assert drawing is not None
    axes = drawing.figure().axes[0]
    assert [line.get_label() for line in axes.lines].index("measured") > 0
    assert axes.collections[0].get_label() == "interval"
    measured = next(line for line in axes.lines if line.get_label() == "measured")
    assert list(measured.get_xdata()) == [
        point["edits"] for point in made["checkpoints"] if point["damage_measured"]
    ]
    assert f"{len(made['checkpoints'])} checkpoints" in drawing.alt


def test_what_was_not_measured_has_no_figure(forecast: Document) -> None:
    assert figures.perplexity(forecast) is None and figures.efficacy(forecast) is None
    result = Trajectory(forecast)
    with pytest.raises(UserError, match="was not measured"):
        result.plot_perplexity()
    assert "edits" in result.plot_damage().drawing.alt
    forecast["forecast"]["curve"] = []
    forecast["forecast"]["not_checked"] = "C is the identity"
    assert figures.damage(forecast) is None
    assert "C is the identity" in words(render(forecast))
    assert "could not be forecast" in sequence.headline(forecast)


def test_tasks_are_drawn_where_they_were_asked(made: Document) -> None:
    assert figures.tasks(made) is None
    with_tasks(made)
    steps = len(made["checkpoints"])
    drawn = figures.tasks(made)
    assert drawn is not None
    assert f"of 2 tasks over edits, from 60 to {100 * (0.7 / steps + 0.5) / 2:.3g}" in drawn.alt
    assert "Scores in downstream tasks" in words(render(made))
    lines = Trajectory(made).plot_tasks().axes.lines
    assert [len(line.get_xdata()) for line in lines[:3]] == [steps + 1] * 3


def test_a_perplexity_beyond_all_numbers_is_left_out(made: Document) -> None:
    made["checkpoints"][-1] |= {"perplexity": None, "ratio": None, "ratio_interval": None}
    drawing = figures.perplexity(made)
    assert drawing is not None
    line = drawing.figure().axes[0].lines[0]
    assert len(line.get_xdata()) == len(made["checkpoints"]) - 1
    parse(render(made))


def test_no_name_of_the_legend_is_cut_off(forecast: Document) -> None:
    """With the many methods of MEMIT's family, too."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for editors in (["rome", "c_rome"], ["emmet", "memit", "memit_seq", "pmet", "alphaedit"]):
        reach = next(iter(forecast["editors"].values()))
        document = forecast | {"editors": dict.fromkeys(editors, reach), "method": editors[0]}
        drawing = figures.damage(document)
        assert drawing is not None
        figure = drawing.figure()
        FigureCanvasAgg(figure).draw()
        box = figure.axes[0].get_legend().get_window_extent()
        assert box.y1 <= figure.bbox.y1 and box.x0 >= 0 and box.x1 <= figure.bbox.x1


def test_curves_are_told_apart_without_colour(forecast: Document) -> None:
    drawing = figures.damage(forecast | {"checkpoints": []})
    assert drawing is not None
    lines = [line for line in drawing.figure().axes[0].lines if line.get_label()[0] != "_"]
    looks = {(line.get_linestyle(), line.get_marker(), line.get_linewidth()) for line in lines}
    assert len(looks) == len(lines) == 3
