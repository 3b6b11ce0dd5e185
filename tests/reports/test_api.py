"""``rome_diagnosis.render``: files and documents alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.document import read_document
from rome_diagnosis.errors import UserError
from tests.documents import FOLDER, sample


def test_the_library_renders_files_and_documents_alike(tmp_path: Path) -> None:
    import rome_diagnosis as rd

    path, document = FOLDER / "keys.json.gz", sample("keys")
    assert rd.render(path) == rd.render(str(path)) == rd.render(document)
    table = sample("screen") | {"table": str(FOLDER / "screen.parquet")}
    assert rd.render(table) == rd.render(read_document(str(FOLDER / "screen.json.gz")))
    assert "Apple" in rd.render(document, sample("edit"))
    document["findings"] = "none"
    with pytest.raises(UserError, match="findings must be a list, not 'none'"):
        rd.render(document)
