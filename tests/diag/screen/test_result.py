"""A screening shows itself as its saved files are shown."""

from __future__ import annotations

from diag.screen.result import Screening
from reports.document import read_document
from reports.pages.page import render
from tests.documents import FOLDER, sample


def test_a_screening_makes_the_page_of_its_saved_files() -> None:
    path = str(FOLDER / "screen.parquet")
    own = Screening(path, sample("screen")).to_html()
    saved = render(read_document(str(FOLDER / "screen.json.gz")))
    assert own.replace(path, "screen.parquet") == saved.replace(path, "screen.parquet")
