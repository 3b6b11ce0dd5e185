"""Texts from whatever users have: the same documents whatever file they come from."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from probes.text import corpus, documents
from probes.text.documents import Documents, read_texts
from rome_diagnosis import source
from rome_diagnosis.errors import UserError

DATA = Path(__file__).parents[4] / "shared" / "data"
TEXTS = ["Paris lies on the Seine.", "Two lines\nof one document.", " \u00dcn\u00efcode"]
PLAIN = "\n\n\n".join(TEXTS)
RECORDS = [{"text": text, "n": 1} for text in TEXTS]
ME_PPL = [{"Corpus": "C4", "Text": text} for text in TEXTS]
FILES = {
    "a.txt": PLAIN,
    "newline.txt": PLAIN + "\n",
    "windows.txt": PLAIN.replace("\n", "\r\n") + "\r\n",
    "blank.txt": f"\n \n{PLAIN}\n\n\n",
    "no-suffix": PLAIN,
    "a.jsonl": "\n".join(map(json.dumps, RECORDS)),
    "newline.jsonl": "".join(json.dumps(record) + "\n" for record in RECORDS),
    "me-ppl.json": json.dumps(ME_PPL, indent=4),
    "me-ppl.txt": json.dumps(ME_PPL),
    "strings.json": json.dumps(TEXTS),
    "a.csv": pd.DataFrame(RECORDS).to_csv(index=False),
    "a.tsv": pd.DataFrame(ME_PPL).to_csv(index=False, sep="\t"),
}


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("mark", [b"", source.BOM], ids=["", "BOM"])
@pytest.mark.parametrize("name", FILES)
def test_every_file_gives_the_same_documents(
    name: str, mark: bytes, zipped: bool, tmp_path: Path
) -> None:
    content = mark + FILES[name].encode("utf-8")
    path = tmp_path / (f"{name}.gz" if zipped else name)
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert read_texts(path) == TEXTS
    assert read_texts(path, limit=2) == TEXTS[:2]
    read = documents.read_documents([str(path)])
    assert list(read.documents) == TEXTS == list(read.documents)  # again and again
    assert read.digest == corpus.Corpus.of("x", TEXTS).digest


def test_parquet_gives_the_same_documents(tmp_path: Path) -> None:
    pd.DataFrame(ME_PPL).to_parquet(tmp_path / "a.parquet")
    assert read_texts(tmp_path / "a.parquet") == TEXTS


def test_plain_text_may_begin_with_a_bracket(tmp_path: Path) -> None:
    for text in ("[Applause] Thank you.", "{x} is the set of x.", "[1] A reference."):
        (tmp_path / "a.txt").write_text(text)
        assert read_texts(tmp_path / "a.txt") == [text]


def test_several_sources_follow_one_another_and_a_field_can_be_named(tmp_path: Path) -> None:
    for name in ("a.txt", "strings.json"):
        (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    both = documents.read_documents([str(tmp_path / "a.txt"), str(tmp_path / "strings.json")])
    assert list(both.documents) == TEXTS * 2
    assert both.name == "a.txt, strings.json"
    (tmp_path / "body.jsonl").write_text('{"body": "x", "text": "y"}')
    assert list(Documents((str(tmp_path / "body.jsonl"),), "body")) == ["x"]
    assert list(Documents((str(tmp_path / "body.jsonl"),))) == ["y"]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.json", '[{"Corpus": "C4"}]', "line 1 of .* has no text under 'text' or 'Text'"),
        ("a.json", "[1, 2]", "line 1 of .* has no text"),
        ("a.json", "[1,", "line 1"),
        ("a.jsonl", '{"text": "x"}\n{"text":\n', "line 2 of .* is not JSON"),
        ("a.jsonl", '{"text": "\\ud800"}', "line 1 of .* is not valid Unicode"),
        ("a.csv", "a,b\n1,2\n", "no column text"),
        ("a.txt", b"caf\xe9", "not UTF-8 text"),
        ("a.txt", b"\xff\xfea\0", "UTF-16"),
        ("a.txt", " \n\n", "no text in it"),
        ("a.txt", "", "no text in it"),
        ("a.json", "[]", "no rows"),
        ("a.txt.gz", b"\x1f\x8bno", "cannot read the text"),
    ],
)
def test_a_mistake_is_one_line(
    name: str, content: str | bytes, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    for read in (read_texts, lambda path: documents.read_documents([str(path)])):
        with pytest.raises(UserError, match=complaint) as refused:
            read(path)
        assert "\n" not in str(refused.value)


def test_what_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path / "absent"):
        with pytest.raises(UserError, match="cannot read the text"):
            read_texts(path)
    monkeypatch.setattr(documents, "LARGEST_RECORD", 20)
    for text in ("x" * 21, "a line\n" * 4):
        (tmp_path / "long.txt").write_text(f"short\n\n{text}")
        with pytest.raises(UserError, match=r"document at line 3 of .* blank lines between"):
            read_texts(tmp_path / "long.txt")


def test_a_saved_hugging_face_data_set_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    datasets.Dataset.from_dict({"text": TEXTS}).save_to_disk(str(tmp_path / "set"))
    assert list(documents.read_documents([str(tmp_path / "set")]).documents) == TEXTS
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="cannot read the text") as refused:
        read_texts(tmp_path / "none")
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(not DATA.is_dir(), reason="the published data sets are not at hand")
def test_me_ppl_and_lambada_are_read() -> None:
    for name, n in (("ME-PPL_50", 50), ("ME-PPL_1k", 1000), ("ME-PPL", 10_000)):
        assert len(read_texts(DATA / "me-ppl" / f"{name}.json")) == n
    field = Documents((str(DATA / "tasks" / "lambada_openai.jsonl"),), "context")
    assert sum(1 for _ in field) == 5153
