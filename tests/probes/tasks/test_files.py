"""Tasks as JSON Lines: the three published forms, and the smallest faulty files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from probes.tasks import files
from rome_diagnosis.errors import UserError

pytest.importorskip("datasets")
QUESTION = {"query": "Question: What is red?\n", "choices": ["blood", "milk"], "gold": 0}
SENTENCE = {"query": "The rose is", "choices": ["red", "blue"], "gold": 0}
SCHEMA = {"context_options": ["so Ann", "so Eve"], "continuation": "left.", "gold": 1}
LAST = {"context": "She shut the", "continuation": "door"}


def write(folder: Path, *records: Any) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    return path


def documents(config: dict[str, Any]) -> list[dict[str, Any]]:
    return list(config["custom_dataset"](config_source="inline")["test"])


def test_each_form_is_told_by_its_fields(tmp_path: Path) -> None:
    forms = {}
    for record in (QUESTION, SCHEMA, LAST):
        config = files.read_task_files(write(tmp_path, record | {"further": 1}))
        forms[config["output_type"], config["doc_to_text"]] = documents(config)
        assert config["task"] == "mine"
    assert list(forms) == [
        ("multiple_choice", "query"), ("multiple_choice", "gold"), ("loglikelihood", "context"),
    ]  # fmt: skip
    assert forms["multiple_choice", "gold"] == [SCHEMA]
    assert forms["loglikelihood", "context"] == [LAST | {"continuation": " door"}]


def test_a_question_is_asked_for_an_answer_and_a_sentence_goes_on(tmp_path: Path) -> None:
    asked, going_on = documents(files.read_task_files(write(tmp_path, QUESTION, SENTENCE)))
    assert asked["query"] == "Question: What is red?\nAnswer:"
    assert going_on["query"] == "The rose is"


@pytest.mark.parametrize(
    ("faulty", "complaint"),
    [
        ({"text": "a"}, "line 2 is no document like the first: it must hold query, choices, gold"),
        ("a", "line 2 is no document like the first"),
        (SENTENCE | {"gold": 2}, "line 2 has gold 2: it must be the index of one of 2 choices"),
        (SENTENCE | {"gold": True}, "has gold True"),
        (SENTENCE | {"choices": ["red", 3]}, "line 2 has no text in choices"),
        (SENTENCE | {"query": ""}, "line 2 has no text in query"),
    ],
)
def test_a_faulty_record_is_named(tmp_path: Path, faulty: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        files.read_task_files(write(tmp_path, SENTENCE, faulty))
    files.read_task_files(write(tmp_path, SENTENCE, QUESTION))  # the control


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, LAST)
    path.write_text(path.read_text() + '{"context": "She', encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot read the task .*mine.jsonl: line 2 is not JSON"):
        files.read_task_files(path)


def test_another_kind_of_file_says_what_a_task_holds(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 1 is no document of a task: it must hold query"):
        files.read_task_files(write(tmp_path, {"prompt": "a", "subject": "b"}))
