"""Text for second moments, from whatever users have."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from probes.text import corpus, documents
from rome_diagnosis.errors import UserError


def test_text_is_read_from_whatever_users_have(tmp_path: Path) -> None:
    texts = ["Paris lies on the Seine.", "Two lines\nof one document.", "Ünïcode"]
    (tmp_path / "a.txt").write_text("\n\n\n".join(texts) + "\n", encoding="utf-8")
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in texts))
    (tmp_path / "b.json").write_text(json.dumps([{"Text": t, "n": 1} for t in texts]))
    (tmp_path / "c.json").write_text(json.dumps(texts))
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write("\n".join(json.dumps({"text": t}) for t in texts))
    digest = corpus.Corpus.of("x", texts).digest
    for name, field in (
        ("a.txt", "text"), ("a.jsonl", "text"), ("b.json", "Text"), ("c.json", "text"),
        ("a.jsonl.gz", "text"),
    ):  # fmt: skip
        found = documents.read([str(tmp_path / name)], field=field)
        assert list(found.documents) == texts == list(found.documents)
        assert found.digest == digest
    several = documents.read([str(tmp_path / "a.txt"), str(tmp_path / "c.json")])
    assert list(several.documents) == texts * 2
    with pytest.raises(UserError, match="no text under 'text'"):
        documents.read([str(tmp_path / "b.json")])
    (tmp_path / "bad.jsonl").write_text('{"text": "x"}\n{"text":\n')
    with pytest.raises(UserError, match="line 2 of"):
        documents.read([str(tmp_path / "bad.jsonl")])
    with pytest.raises(UserError, match="cannot read the corpus"):
        documents.read([str(tmp_path / "absent.txt")])


def test_a_saved_hugging_face_data_set_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    texts = ["Paris lies on the Seine.", "Apple was founded."]
    datasets.Dataset.from_dict({"text": texts}).save_to_disk(str(tmp_path / "set"))
    assert list(documents.read([str(tmp_path / "set")]).documents) == texts
