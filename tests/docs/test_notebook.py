"""The notebook in ``examples/`` runs as it stands, and its results show themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
NOTEBOOK = ROOT / "examples" / "one_edit.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    nbformat = pytest.importorskip("nbformat", reason="needs the extra: pip install -e '.[test]'")
    nbclient = pytest.importorskip("nbclient", reason="needs the extra: pip install -e '.[test]'")
    pytest.importorskip("ipykernel", reason="needs the extra: pip install -e '.[test]'")
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=environment)
    return notebook, folder


def outputs(cell: Any) -> dict[str, str]:
    return {
        kind: "".join(text) if isinstance(text, list) else str(text)
        for output in cell.outputs
        for kind, text in output.get("data", {}).items()
    }


def test_results_show_themselves(executed: tuple[Any, Path]) -> None:
    notebook, folder = executed
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = outputs(cells[0])
    assert "KeyDiagnosis('Vienna'" in shown["text/plain"]
    assert shown["text/html"].count("<svg") >= 5
    assert "<table" in outputs(cells[1])["text/html"]
    assert outputs(cells[2])["text/html"].count("<svg") == 1
    assert "c_rome_prefixed" in outputs(cells[3])["text/html"]
    assert (folder / "edit.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    last = [output.get("data", {}).get("text/html", "") for output in cells[-1].outputs]
    assert any("<progress" in text for text in last)
    assert any("<svg" in text for text in last)


def test_the_notebook_is_short_and_saved_without_outputs() -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs the extra: pip install -e '.[test]'")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    statements = [line for cell in cells for line in cell.source.splitlines() if line.strip()]
    assert len(statements) <= 20
