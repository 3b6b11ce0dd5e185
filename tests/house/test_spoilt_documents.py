"""Documents spoilt in every way: a rendering or one line, nothing else."""

from __future__ import annotations

import copy
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reports import command
from reports.document import read_document
from rome_diagnosis.errors import UserError
from tests.documents import FOLDER, SAMPLES, sample
from tests.house.mutations import MUTATIONS, flip, mutants, truncate

Outcomes = Counter[str]
FORMS: dict[str, Callable[[Any], str]] = {"txt": command.text, "md": command.markdown}
ALL_FORMS = {**FORMS, "html": command.page}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for table in FOLDER.glob("*.parquet"):
        shutil.copy(table, tmp_path)
    return tmp_path


def outcomes(
    name: str, n: int, folder: Path, *, seed: int, forms: dict[str, Callable[[Any], str]]
) -> Outcomes:
    """Reads and renders spoilt copies of a recorded document, without the command's last guard."""
    counts: Outcomes = Counter()
    path = folder / "result.json"
    for done, content in mutants(sample(name), n, seed=f"{name} {seed}"):
        path.write_bytes(content)
        try:
            document = read_document(str(path))
        except UserError as error:
            _check_line(error, done)
            counts["refused"] += 1
            continue
        for form, render in forms.items():
            try:
                render([document]).encode()
                counts[form] += 1
            except UserError as error:
                _check_line(error, done)
                counts[f"{form} refused"] += 1
    return counts


def _check_line(error: UserError, done: str) -> None:
    message = str(error)
    assert message and len(message.splitlines()) == 1, done
    assert len(message) < 600, done


@pytest.mark.parametrize("name", SAMPLES)
def test_spoilt_documents_are_rendered_or_get_one_line(name: str, folder: Path) -> None:
    counts = outcomes(name, 40, folder, seed=0, forms=FORMS)
    # Both happen: the documents are neither all good nor all hopeless.
    assert counts["refused"] >= 10
    assert counts["md"] >= 8


@pytest.mark.parametrize("name", SAMPLES)
def test_spoilt_documents_make_pages_or_get_one_line(name: str, folder: Path) -> None:
    counts = outcomes(name, 6, folder, seed=1, forms={"html": command.page})
    assert counts["refused"] and counts["html"]


def test_spoilt_tables_get_one_line(folder: Path) -> None:
    counts: Outcomes = Counter()
    path, good = folder / "spoilt.parquet", (FOLDER / "screen.parquet").read_bytes()
    for i in range(200):
        draw = random.Random(f"bytes {i}")
        path.write_bytes(draw.choice((flip, flip, flip, truncate))(good, draw))
        counts[_read(path)] += 1
    assert counts["refused"] >= 100 and counts["read"] >= 5


def test_tables_with_spoilt_rows_are_shown_or_get_one_line(folder: Path) -> None:
    counts: Outcomes = Counter()
    rows = pq.read_table(folder / "screen.parquet").to_pylist()
    for i in range(100):
        draw = random.Random(f"rows {i}")
        changed = draw.choice(MUTATIONS)(copy.deepcopy(rows), draw)
        try:
            table = pa.Table.from_pylist(changed)
        except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError):
            continue  # no table can hold this
        pq.write_table(table, folder / "screen.parquet")
        counts[_read(FOLDER / "screen.json.gz", folder / "screen.json")] += 1
    assert counts["refused"] >= 10 and counts["read"] >= 10


def _read(path: Path, at: Path | None = None) -> str:
    """Reads a table, or a summary put beside it, and renders what can be read."""
    if at is not None:
        path = Path(shutil.copy(path, at))
    try:
        document = read_document(str(path))
    except UserError as error:
        _check_line(error, path.name)
        return "refused"
    for form in FORMS:
        if form == "md" or document.get("summary") is not None:
            FORMS[form]([document]).encode()
    return "read"


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_five_thousand_spoilt_documents(name: str, folder: Path) -> None:
    counts = outcomes(name, 625, folder, seed=2, forms=ALL_FORMS)
    print(name, dict(counts))
    assert counts["refused"] > 100
    assert counts["html"] > 50


def test_an_error_would_be_seen(folder: Path) -> None:
    def fail(documents: Any) -> str:
        raise KeyError("target_new")

    with pytest.raises(KeyError):
        outcomes("keys", 20, folder, seed=0, forms={"txt": fail})
