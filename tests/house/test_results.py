"""Every result: its plots on its own axes and on given ones, its files, and a valid document."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from diag.batch.result import Batch
from diag.covariance.result import SecondMoments
from diag.hardcases.result import HardCases
from diag.keys.result import KeyDiagnosis
from diag.saved.result import Applied
from diag.screen.result import LayerScreening, Screening
from diag.sequence.result import Trajectory
from diag.surrogate.result import Surrogate
from diag.sweep.result import LayerSweep
from diag.tasks.result import TaskScores
from diag.verify.result import Comparison, Verification
from probes.first_token.run import FirstTokenProbes
from reports.document import read_document
from reports.figures.picture import Picture
from rome_diagnosis.errors import UserError
from tests.documents import EVIDENCE, FOLDER, sample, with_tasks

RESULTS: dict[str, Any] = {
    "KeyDiagnosis": lambda: KeyDiagnosis(sample("keys"), torch.zeros(2, 4).double(), None),  # type: ignore[arg-type]
    "Verification": lambda: Verification(sample("edit")),
    "Comparison": lambda: Comparison(read_document(str(EVIDENCE))),
    "Screening": lambda: Screening(str(FOLDER / "screen.parquet"), sample("screen")),
    "LayerScreening": lambda: LayerScreening("t.parquet", sample("screen_layers")),
    "SecondMoments": lambda: SecondMoments(sample("covariance")),
    "LayerSweep": lambda: LayerSweep(sample("sweep")),
    "Applied": lambda: Applied(sample("apply"), "folder"),
    "HardCases": lambda: HardCases("records.json", sample("hardcases")),
    "TaskScores": lambda: TaskScores(sample("tasks")),
    "Surrogate": lambda: Surrogate(sample("surrogate")),
    "Batch": lambda: Batch(sample("batch")),
    "Trajectory": lambda: Trajectory(with_tasks(sample("sequence_performed"))),
    "FirstTokenProbes": lambda: FirstTokenProbes(sample("first_token"), []),
}


@pytest.mark.parametrize("name", RESULTS)
def test_every_plot_is_a_picture_on_axes(name: str, tmp_path: Path) -> None:
    result = RESULTS[name]()
    plots = [attribute for attribute in dir(result) if attribute.startswith("plot_")]
    assert plots
    figure = Figure(figsize=(4 * len(plots), 4))
    for axes, plot in zip(figure.subplots(1, len(plots), squeeze=False)[0], plots, strict=True):
        picture = getattr(result, plot)(ax=axes)
        assert isinstance(picture, Picture) and picture.axes is axes and axes.has_data()
        assert axes.get_xlabel() and (axes.get_ylabel() or axes.get_yticklabels())
    figure.savefig(tmp_path / "all.png")
    own = getattr(result, plots[0])()
    own.save(str(tmp_path / "own.pdf"))
    written = (tmp_path / "own.pdf").read_bytes()
    assert written.startswith(b"%PDF") and b"<svg" not in written


@pytest.mark.parametrize("name", RESULTS)
def test_a_file_is_what_its_name_says(name: str, tmp_path: Path) -> None:
    result = RESULTS[name]()
    for suffix, beginning in (("json", "{"), ("html", "<!DOCTYPE html>"), ("md", "# ")):
        path = tmp_path / f"result.{suffix}"
        result.save(path)
        assert path.read_text(encoding="utf-8").startswith(beginning)
    if name in ("LayerSweep", "Trajectory", "Batch", "Screening"):  # recorded as they are today
        result.save(tmp_path / "result.csv")
        table = pd.read_csv(tmp_path / "result.csv")
        assert list(table.columns) == list(result.to_pandas().columns)
        assert len(table) == len(result.to_pandas())
    with pytest.raises(UserError, match="must end in"):
        result.save(tmp_path / "result.docx")


def test_results_that_tests_make_are_checked(tmp_path: Path) -> None:
    makers: dict[str, Callable[[dict[str, Any]], Any]] = {
        "keys": lambda document: KeyDiagnosis(document, torch.zeros(1, 1), None),  # type: ignore[arg-type]
        "edit": Verification,
        "edits": Comparison,
        "screen": lambda document: Screening(str(tmp_path / "table.parquet"), document),
        "covariance": SecondMoments,
        "sweep": LayerSweep,
        "first_token": lambda document: FirstTokenProbes(document, ()),
        "batch": Batch,
        "hardcases": lambda document: HardCases("hard.json", document),
    }
    for name, make in makers.items():
        make(sample(name))
        wrong = sample(name)
        del wrong["version"]
        with pytest.raises(UserError, match="version is missing"):
            make(wrong)
